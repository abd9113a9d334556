export { askEndpoint, cacheAuthorization } from './auth-cache.mjs';
export { resume, resumePath } from './resume.mjs';
