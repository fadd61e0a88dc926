#!/usr/bin/env node
// What we accept, llhttp (the parser inside Node.js) must understand the same way.
//
// usage: oracle_llhttp.js DUMP FILE MUTANTS-PER-CASE
// Runs DUMP and judges its lines. Exit status: 0 agreement, 1 a difference, 77 no llhttp to ask.
'use strict';

const {spawn} = require('node:child_process');
const readline = require('node:readline');

process.noDeprecation = true;
let HTTPParser, methods;
try {
  ({HTTPParser, methods} = process.binding('http_parser'));
} catch {
  console.log('this Node.js does not lend its parser');
  process.exit(77);
}
if (HTTPParser.kOnHeadersComplete === undefined || !methods)
  process.exit(77);

const hex = (text) => Buffer.from(text, 'latin1').toString('hex');

function ask(raw) {
  const told = [];
  const parser = new HTTPParser();
  let early = [], url = '';
  parser.initialize(HTTPParser.REQUEST, {});
  parser[HTTPParser.kOnHeaders | 0] = (headers, part) => { early.push(...headers); url += part; };
  parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, headers, method, target, status, message, upgrade, keepAlive) => {
    told.push({
      method: hex(methods[method]), target: hex(url + (target || '')),
      fields: [...early, ...(headers || [])].map(hex), body: '', complete: false, keepAlive, upgrade,
    });
    early = [];
    url = '';
    return 0;
  };
  parser[HTTPParser.kOnBody | 0] = (part) => { told[told.length - 1].body += Buffer.from(part).toString('hex'); };
  parser[HTTPParser.kOnMessageComplete | 0] = () => { told[told.length - 1].complete = true; early = []; };
  const used = parser.execute(raw);
  parser.close();
  return {told, used};
}

function difference(seen, told) {
  for (const key of ['method', 'target', 'body', 'complete'])
    if (seen[key] !== told[key])
      return `${key}: ${seen[key]} and ${told[key]}`;
  // We may close where it goes on (`close, keep-alive`), never go on where it closes.
  if (seen.complete && seen.keepAlive && !told.keepAlive)
    return 'persistence';
  if (told.upgrade)
    return 'upgrade';
  if (seen.fields.join() !== told.fields.join())
    return `fields: ${seen.fields.join()} and ${told.fields.join()}`;
  return null;
}

function judge(line) {
  const reading = JSON.parse(line);
  const raw = Buffer.from(reading.raw, 'hex');
  const {told, used} = ask(raw);
  // Blanks behind `chunked`, which RFC 9112 5.1 allows, are refused by some versions of llhttp.
  if (used instanceof Error && used.code === 'HPE_INVALID_TRANSFER_ENCODING' &&
      /^transfer-encoding:[ \t]*chunked[ \t]+\r$/im.test(raw.toString('latin1')))
    return null;
  if (used instanceof Error)
    return {reading, raw, why: `refused: ${used.code} ${used.reason}`};
  if (used !== raw.length)
    return {reading, raw, why: `read ${used} of ${raw.length} bytes`};
  if (told.length !== reading.seen.length)
    return {reading, raw, why: `${reading.seen.length} and ${told.length} requests`};
  for (let i = 0; i < told.length; i++) {
    const why = difference(reading.seen[i], told[i]);
    if (why)
      return {reading, raw, why};
  }
  return null;
}

const [dump, file, mutants] = process.argv.slice(2);
const child = spawn(dump, [file, mutants], {stdio: ['ignore', 'pipe', 'inherit']});
let lines = 0, differences = 0, status = null;
child.on('exit', (code) => { status = code; });
const reader = readline.createInterface({input: child.stdout});
reader.on('line', (line) => {
  lines++;
  const found = judge(line);
  if (found && ++differences <= 20)
    console.log(`${found.reading.name}: ${found.why}\n${JSON.stringify(found.raw.toString('latin1'))}`);
});
child.on('close', () => {
  console.log(`${lines} messages compared, ${differences} differences`);
  process.exit(status === 0 && lines > 1000 && differences === 0 ? 0 : 1);
});
