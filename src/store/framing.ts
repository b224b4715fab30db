/** How a body stands on the wire. The end of the message must be part of the message where a store keeps short bodies. */
export interface BodyFraming {
  /** `x-amz-content-sha256` and what goes with it; signed. */
  readonly headers: Readonly<Record<string, string>>;
  /** Content-Length of the framed body. */
  wireLength(length: number): number;
  /** Frames payload bytes; `emit` gets buffers in wire order. */
  push(payload: Buffer, emit: (wire: Buffer) => void): void;
  /** Everything that follows the payload. */
  finish(emit: (wire: Buffer) => void): void;
}

/** Content-Length alone: only for stores that keep the old object when a body is cut off. */
export function plainFraming(): BodyFraming {
  return {
    headers: { 'x-amz-content-sha256': 'UNSIGNED-PAYLOAD' },
    wireLength: (length) => length,
    push: (payload, emit) => emit(payload),
    finish: () => undefined,
  };
}
