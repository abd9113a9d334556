// Uses every export of campanile-resume with the types of pusher-js and laravel-echo. It is compiled, and never run.

import Echo1 from 'laravel-echo-1';
import Echo2 from 'laravel-echo-2';
import Pusher7 from 'pusher-js-7';
import Pusher8 from 'pusher-js-8';

import {
  askEndpoint, cacheAuthorization, resume, resumePath,
  type Authorization, type AuthorizationCallback, type Authorize, type Client,
} from 'campanile-resume';

const authorize: Authorize = async (socketId: string, channelName: string): Promise<Authorization> => ({ auth: `${socketId}:${channelName}` });
const { authorizer, customHandler } = cacheAuthorization(authorize);
const options = { cluster: '', wsPath: resumePath(), channelAuthorization: { customHandler, endpoint: '', transport: 'ajax' as const } };

// The client that is returned has the type of the one that is given.
const pusher7: Pusher7 = resume(new Pusher7('key', options));
const pusher8: Pusher8 = resume(new Pusher8('key', options));
const echo1: Echo1<'reverb'> = resume(new Echo1<'reverb'>({ broadcaster: 'reverb', wsPath: resumePath('/ws'), authorizer }));
const echo2: Echo2<'reverb'> = resume(new Echo2<'reverb'>({ broadcaster: 'reverb', key: 'key', Pusher: Pusher8, wsPath: resumePath('/ws'), authorizer }));
export const clients: Client[] = [pusher7, pusher8, echo1, echo2];

const done: AuthorizationCallback = (error, data) => [error?.message, data?.channel_data, data?.shared_secret];
customHandler({ socketId: '1.1', channelName: 'private-a' }, done);
authorizer({ name: 'private-a' }).authorize('1.1', done);
export const asked: Promise<Authorization> = askEndpoint('/broadcasting/auth', { 'X-CSRF-TOKEN': 'token' })('1.1', 'private-a');

// @ts-expect-error A client is an object.
resume('key');
// @ts-expect-error An authorization has a signature.
cacheAuthorization(() => ({ channel_data: '{}' }));
