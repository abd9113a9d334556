import { start } from './start.jsx';

start(document.getElementById('app'));
