/**
 * The middleware form: two factories that return Express routers, and what they are configured with.
 * The stand-alone server (`server.ts`, `cli.ts`) is one application made of the same parts.
 */
export { s3Encryption, kmsAdmin, type S3Encryption } from './middleware.ts';
export { ConfigError } from './config.ts';
export { createLog, type Log, type LogLevel } from './log.ts';
