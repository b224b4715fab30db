import { createServer, IncomingMessage, ServerResponse, type Server } from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { Express } from 'express';

/**
 * An HTTP or HTTPS server for an Express application. Express sets the prototype of every request and response to the
 * application's own, which throws V8's hidden classes away at each request. Here both are born from classes whose
 * prototypes are the application's, so that the assignment changes nothing.
 */
export function createListener(app: Express, tls?: ServerOptions): Server {
  class Request extends IncomingMessage {}
  class Response extends ServerResponse {}
  Object.setPrototypeOf(Request.prototype, app.request);
  Object.setPrototypeOf(Response.prototype, app.response);
  app.request = Request.prototype as unknown as Express['request'];
  app.response = Response.prototype as unknown as Express['response'];
  const classes = { IncomingMessage: Request, ServerResponse: Response };
  const listen = app as unknown as (req: IncomingMessage, res: ServerResponse) => void;
  return tls ? createTlsServer({ ...tls, ...classes }, listen) : createServer(classes, listen);
}
