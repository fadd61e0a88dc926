#!/usr/bin/env node
// What the HTTP server of Node.js (llhttp, not lenient) sees in raw messages, each on a connection
// of its own that ends behind it.
//
// Reads lines of hex from standard input; writes a line of JSON for each, in the same order:
// {"seen": [{method, target, fields, body, complete}], "refused": null or why}, texts in hex.
'use strict';

const http = require('node:http');
const net = require('node:net');
const readline = require('node:readline');

const AT_ONCE = 40;
const hex = (text) => Buffer.from(text, 'latin1').toString('hex');
const results = new Map(); // by the client's port

function take(request, response) {
  const result = results.get(request.socket.remotePort);
  const seen = {method: hex(request.method), target: hex(request.url), fields: request.rawHeaders.map(hex), body: '', complete: false};
  result.seen.push(seen);
  request.on('data', (part) => { seen.body += part.toString('hex'); });
  request.on('end', () => {
    seen.complete = request.complete;
    response.end();
  });
  request.on('error', () => {});
}

const server = http.createServer({insecureHTTPParser: false, keepAliveTimeout: 0, maxHeaderSize: 65536}, take);
// What had been read when the client's side ended has been told by then; a message that is cut off
// would be waited for.
server.httpAllowHalfOpen = true;
server.on('connection', (socket) => socket.on('end', () => setTimeout(() => socket.destroy(), 20)));
server.on('checkExpectation', take);
server.on('checkContinue', take);
for (const event of ['upgrade', 'connect'])
  server.on(event, (request, socket) => {
    const result = results.get(request.socket.remotePort);
    if (result)
      result.refused = event;
    socket.destroy();
  });
server.on('clientError', (error, socket) => {
  const result = results.get(socket.remotePort);
  if (result && !result.refused)
    result.refused = error.code || 'error';
  socket.destroy();
});

function ask(raw) {
  return new Promise((resolve) => {
    const result = {seen: [], refused: null};
    const socket = net.connect({port: server.address().port, host: '127.0.0.1', allowHalfOpen: true}, () => {
      results.set(socket.localPort, result);
      socket.end(raw);
    });
    // A Host that is missing is answered by Node.js itself, without an event.
    let first = '';
    socket.on('data', (part) => { if (first.length < 12) first += part.toString('latin1').slice(0, 12); });
    socket.on('error', () => {});
    socket.on('close', () => {
      if (!result.refused && result.seen.length === 0 && first)
        result.refused = first;
      resolve(result);
    });
  });
}

async function main() {
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const lines = [];
  for await (const line of readline.createInterface({input: process.stdin}))
    lines.push(Buffer.from(line, 'hex'));
  const answers = new Array(lines.length);
  let next = 0;
  const work = async () => {
    while (next < lines.length) {
      const i = next++;
      answers[i] = await ask(lines[i]);
    }
  };
  await Promise.all(Array.from({length: AT_ONCE}, work));
  process.stdout.write(answers.map((answer) => JSON.stringify(answer) + '\n').join(''), () => process.exit(0));
}

main();
