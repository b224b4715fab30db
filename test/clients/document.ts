import { CLIENTS } from './clients.ts';
import { MEANING, STEPS, type Client, type StepName } from './client.ts';
import { GAPS, type Gap } from './gaps.ts';
import { MATRIX_STORES, type Smoke } from './stores.ts';

const WHOLE = MATRIX_STORES.filter(({ smoke }) => smoke === undefined);

/**
 * docs/CLIENTS.md. It is made of what the clients declare, which is what the matrix holds them to: every step that is
 * not declared as lacking or as a gap has to pass, and every gap has to fail as it says.
 */
export function clientsDocument(): string {
  return [
    '# Clients',
    '',
    '<!-- Made by `npm run docs:clients` from test/clients; do not edit. -->',
    '',
    `${CLIENTS.length} clients, unchanged, do their normal work through the gateway over ${WHOLE.length} stores`,
    `(${WHOLE.map(({ title }) => title).join(', ')}),`,
    'over HTTP and over HTTPS with a private authority, in buckets whose default is SSE-KMS and with their own SSE options.',
    ...MATRIX_STORES.flatMap(({ title, smoke }) => (smoke === undefined ? [] : tellSmoke(title, smoke))),
    '`npm run test:clients` runs it all and needs the Debian packages, MinIO and versitygw that `.ci/run` installs. What is',
    'written here is what that run holds: a step that fails, and a gap that has closed, fail the run.',
    '',
    '## Steps',
    '',
    ...table(
      ['step', 'what is done'],
      STEPS.map((step) => [step, MEANING[step]]),
    ),
    '',
    '## What each does',
    '',
    '✓ works over every one of these stores and transports; – the client has no means for it; a number is a gap, told below.',
    '',
    ...table(
      ['', ...CLIENTS.map(({ name }) => name)],
      STEPS.map((step) => [step, ...CLIENTS.map((client) => cell(client, step))]),
    ),
    '',
    '## Gaps',
    '',
    ...(GAPS.length === 0 ? ['None.'] : GAPS.map((gap, i) => `${i + 1}. ${tellGap(gap)}`)),
    '',
    '## What the owner of a client sets',
    '',
    'Every client: the endpoint, the region of the gateway (`data.region`), an identity of the gateway, and the authority',
    'of its certificate when that is a private one. ETags of encrypted objects are no MD5, as on AWS with SSE-KMS and',
    'SSE-C. Here they end in `-` and digits (`-01` for an object in one piece), which is how clients know that there is',
    'nothing to compare. Who compares all the same has a setting for it, told below.',
    ...CLIENTS.flatMap(tellClient),
    '',
  ].join('\n');
}

function tellSmoke(title: string, { clients, transport, steps }: Smoke): string[] {
  return [
    `Over ${title} only a part of it is done: ${clients.join(', ')},`,
    `over ${transport.toUpperCase()}, the steps ${steps.join(', ')}.`,
  ];
}

function cell({ name, lacks }: Client, step: StepName): string {
  if (lacks[step] !== undefined) return '–';
  const numbers = GAPS.flatMap((gap, i) =>
    gap.steps.includes(step) && (gap.clients?.includes(name) ?? true) ? [String(i + 1)] : [],
  );
  return numbers.length === 0 ? '✓' : numbers.join(', ');
}

function tellGap({ clients, stores, transports, steps, reason }: Gap): string {
  const where = [...(stores ?? []), ...(transports ?? [])];
  return `${(clients ?? ['every client']).join(', ')}: ${steps.join(', ')}${where.length === 0 ? '' : ` (${where.join(', ')})`}. ${reason}`;
}

function tellClient({ name, version, source, settings, lacks }: Client): string[] {
  const reasons = new Map<string, StepName[]>();
  for (const step of STEPS) {
    const reason = lacks[step];
    if (reason !== undefined) reasons.set(reason, [...(reasons.get(reason) ?? []), step]);
  }
  return [
    ...['', `### ${name}`, '', `${version.replace(/^.*[ /v]/i, '')}, ${source}.`, ''],
    ...table(
      ['set', 'why'],
      settings.map(({ set, why }) => [set, why]),
    ),
    ...(reasons.size === 0 ? [] : ['', 'Not done:', '']),
    ...[...reasons].map(([reason, steps]) => `- ${steps.join('; ')}: ${reason}`),
  ];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)];
}
