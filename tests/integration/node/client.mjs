// Microsoft's client for Node, as a user would write it. The token comes on stdin.
// usage: node client.mjs URL bearer|basic  -> {"projects": [...], "run": ID, "refused": "message"}
import { readFileSync } from 'node:fs';
import * as azdo from 'azure-devops-node-api';

const [url, scheme] = process.argv.slice(2);
const token = readFileSync(0, 'utf8').trim();
const handler = scheme === 'bearer' ? azdo.getBearerHandler(token) : azdo.getBasicHandler('PAT', token);
const connection = new azdo.WebApi(url, handler);

const core = await connection.getCoreApi();
const projects = (await core.getProjects()).map((project) => project.name);
const pipelines = await connection.getPipelinesApi();
const run = await pipelines.runPipeline({}, 'analytics', 42);
let refused = '';
try {
  await pipelines.runPipeline({}, 'analytics', 99);
} catch (error) {
  refused = error.message;
}
console.log(JSON.stringify({ projects, run: run.id, refused }));
