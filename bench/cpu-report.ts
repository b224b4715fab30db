/** Preloaded into every Node process under test: answers `cpu` with the microseconds that it has used. */
process.on('message', (message) => {
  if (message !== 'cpu') return;
  const { user, system } = process.cpuUsage();
  process.send?.({ cpu: user + system });
});
