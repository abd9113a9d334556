/** A client of pusher-js, or one of laravel-echo with the broadcaster `reverb` or `pusher`. */
export type Client = object;

/** The JSON of an authorization endpoint. */
export interface Authorization {
  auth: string;
  channel_data?: string;
  shared_secret?: string;
}

/** Asks the application for an authorization. Rejects if it is refused. */
export type Authorize = (socketId: string, channelName: string) => Authorization | Promise<Authorization>;

export type AuthorizationCallback = (error: Error | null, data: Authorization | null) => void;

/** A value for `wsPath` with a random token; `prefix` is `server.path` of the server. Make one for each page load. */
export function resumePath(prefix?: string): string;

/** Begins to count events, and returns the client. Call it right after the client's constructor. */
export function resume<T extends Client>(client: T): T;

/** Remembers authorizations until the socket id changes; refusals are not remembered. */
export function cacheAuthorization(authorize: Authorize): {
  /** For pusher-js: `channelAuthorization: { customHandler }`. */
  customHandler(request: { socketId: string; channelName: string }, callback: AuthorizationCallback): void;
  /** For laravel-echo: `authorizer`. */
  authorizer(channel: { name: string }): { authorize(socketId: string, callback: AuthorizationCallback): void };
};

/** Asks an endpoint like Laravel's; `endpoint` is `/broadcasting/auth` if it is not given. */
export function askEndpoint(endpoint?: string, headers?: Record<string, string>): (socketId: string, channelName: string) => Promise<Authorization>;
