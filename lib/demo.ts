// SPDX-License-Identifier: 0BSD

/**
 * Plays the main job once: starts the server, types a few lines into the
 * client, and prints what both terminals would show, and what watch.ts draws.
 *
 *     deno task demo
 *
 * @module
 */

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { listening, Script } from "./parts/process.ts";

const LINES = ["ciao, mondo", "perché no? così è più bello", "straße 😀 ok"];

/** Starts one of the project's programs. */
function start(name: string, ...args: string[]): Script {
  return Script.start(import.meta.resolve(`../${name}`), { args });
}

await using server = await listening(start("server.ts", "--port=0"));
const to = server.address.port;
await using watch = await listening(
  start("lib/watch.ts", "--port=0", `--to=${to}`),
);
const { port } = watch.address;
await using client = start("client.ts", `--port=${port}`);

for (const line of LINES) {
  await client.write(`${line}\n`);
  await pause(800); // the next line takes its time to be typed
}
await client.closeInput();
const { code, stdout } = await client.exit();
const replies = stdout.split("\n");
const screen = LINES.map((line, at) => `${line}\n${replies[at]}\n`).join("");
await server.script.stdoutMatch(/ closed, .*\n/);
const [, diagram] = await watch.script.stdoutMatch(/\n\n([^]* close\(\)\n)/);

console.log(`Terminal 1: deno run --allow-net server.ts --port 0
${server.script.stdout}
Terminal 2: deno run --allow-net client.ts --port ${port}
${screen}
What went between them: deno task watch --port ${port} --to ${to}
${diagram}`);
assert.equal(stdout, `${LINES.join("\n")}\n`.toUpperCase());
assert.equal(code, 0);
console.log("All replies are right. Now try both commands in two terminals.");
