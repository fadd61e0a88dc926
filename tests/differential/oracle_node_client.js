#!/usr/bin/env node
// What the HTTP client of Node.js (llhttp, not lenient) sees in raw answers, each on a connection of
// its own that ends behind it.
//
// Reads lines from standard input, 'H' or 'G' (what is asked) and hex; writes a line of JSON for
// each, in the same order: {"statuses", "fields", "body", "complete", "refused"}, texts in hex.
'use strict';

const http = require('node:http');
const net = require('node:net');
const readline = require('node:readline');

const AT_ONCE = 40;
const hex = (text) => Buffer.from(text, 'latin1').toString('hex');
const raws = [];

// Answers when it has been asked, with what the target names.
const server = net.createServer((socket) => {
  let head = '';
  socket.on('error', () => {});
  socket.on('data', (part) => {
    head += part.toString('latin1');
    if (!head.includes('\r\n\r\n') || socket.writableEnded)
      return;
    socket.end(raws[Number(head.split(' ')[1].slice(1))].raw);
  });
});

function ask(i) {
  return new Promise((resolve) => {
    const told = {statuses: [], fields: [], body: '', complete: false, refused: null};
    const request = http.request({port: server.address().port, host: '127.0.0.1', path: '/' + i, method: raws[i].method, agent: false,
      insecureHTTPParser: false, maxHeaderSize: 65536});
    request.on('information', (info) => told.statuses.push(info.statusCode));
    request.on('continue', () => {});
    request.on('upgrade', (response, socket) => { told.refused = 'upgrade'; socket.destroy(); resolve(told); });
    request.on('response', (response) => {
      told.statuses.push(response.statusCode);
      told.fields = response.rawHeaders.map(hex);
      response.on('data', (part) => { told.body += part.toString('hex'); });
      response.on('error', (error) => { told.refused = told.refused || error.code || 'error'; });
      response.on('close', () => { told.complete = response.complete; resolve(told); });
    });
    request.on('error', (error) => {
      told.refused = told.refused || error.code || 'error';
      if (!request.res)
        resolve(told);
    });
    request.setTimeout(10000, () => request.destroy(new Error('late')));
    request.end();
  });
}

async function main() {
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  for await (const line of readline.createInterface({input: process.stdin}))
    raws.push({method: line[0] === 'H' ? 'HEAD' : 'GET', raw: Buffer.from(line.slice(1), 'hex')});
  const answers = new Array(raws.length);
  let next = 0;
  const work = async () => {
    while (next < raws.length) {
      const i = next++;
      answers[i] = await ask(i);
    }
  };
  await Promise.all(Array.from({length: AT_ONCE}, work));
  process.stdout.write(answers.map((answer) => JSON.stringify(answer) + '\n').join(''), () => process.exit(0));
}

main();
