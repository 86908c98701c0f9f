// SPDX-License-Identifier: 0BSD

/** The short pair: what it promises, and what README.md says that it lacks. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { checks, conform } from "../lib/conformance.ts";
import { listening, run, Script } from "../lib/parts/process.ts";
import { freePort, has } from "./machine.ts";
import { expectExit, ROOT } from "./pair.ts";
import { ask, readAll, resetHere, serveHere, talk } from "./sockets.ts";

const SERVER = join(ROOT, "lib/short/server.ts");
const CLIENT = join(ROOT, "lib/short/client.ts");

Deno.test("short pair - the server keeps each promise of the checker", async (t) => {
  const args = [`${freePort()}`];
  await using server = await listening(Script.start(SERVER, { args }));
  const budget = 300; // seconds: the machine may be busy
  const { results } = await conform(server.address, { budget });
  assert.equal(results.length, checks.length, "not all was asked");
  for (const { name, promise, outcome, came } of results) {
    await t.step(`${name}: ${promise}`, () => {
      assert.equal(outcome, "kept", came);
    });
  }
});

Deno.test("short pair - a server with no socket left serves on (prlimit)", {
  ignore: !has("prlimit"),
}, async () => {
  const args = [`${freePort()}`];
  const wrapper = ["prlimit", "--nofile=64"];
  await using server = await listening(Script.start(SERVER, { args, wrapper }));
  using first = await Deno.connect(server.address);
  assert.equal(await ask(first, "first\n"), "FIRST\n");
  const others = await Promise.all(
    Array.from({ length: 80 }, () => Deno.connect(server.address)),
  );
  assert.equal(await ask(first, "again\n"), "AGAIN\n");
  for (const other of others) other.close();
  assert.equal(await talk(server.address, "newcomer\n"), "NEWCOMER\n");
});

Deno.test("short pair - no server, and a server that resets: a stack trace, exit code 1", async () => {
  await using server = await resetHere("data");
  const { port: resets } = server.address;
  const ports = { ConnectionRefused: freePort(), ConnectionReset: resets };
  for (const [error, port] of Object.entries(ports)) {
    const client = Script.start(CLIENT, { args: [`${port}`] });
    const stderr = new RegExp(`^error: Uncaught .*${error}: [^]*client\\.ts:`);
    expectExit(await run(client, "ciao\n"), { code: 1, stdout: "", stderr });
  }
});

Deno.test("short pair - what is sent after the server has closed is lost without a word", async () => {
  await using server = serveHere(async (socket) => {
    await socket.closeWrite();
    await readAll(socket); // a close() would reset the connection when bytes come
  });
  const client = Script.start(CLIENT, { args: [`${server.address.port}`] });
  expectExit(await run(client, "too late\n"), { stdout: "" });
});
