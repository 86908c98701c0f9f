// SPDX-License-Identifier: 0BSD

/** The short pair: what it promises, and what README.md says that it lacks. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { checks, conform } from "../lib/conformance.ts";
import { listening, run, Script } from "../lib/parts/process.ts";
import { freePort, has, temporaryFolder } from "./machine.ts";
import { expectExit, expectUppercase, ROOT } from "./pair.ts";
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

Deno.test("short pair - alone in an empty folder, with an empty cache and no network, it moves every byte of 3 MB", async () => {
  await using folder = await temporaryFolder();
  const { path } = folder;
  await Deno.copyFile(SERVER, join(path, "server.ts"));
  await Deno.copyFile(CLIENT, join(path, "client.ts"));
  const options = {
    args: [`${freePort()}`],
    cwd: path,
    permissions: ["--no-remote", "--no-npm", "--allow-net"],
    env: { DENO_DIR: join(path, "cache"), HOME: path },
  };
  await using _server = await listening(Script.start("server.ts", options));
  const client = Script.start("client.ts", options);
  await expectUppercase(client, "perché no? ß 😀\n".repeat(160_000));
});

Deno.test(
  "short pair - a server with no socket left serves the clients that it has, and goes on (prlimit)",
  {
    ignore: !has("prlimit"),
  },
  async () => {
    const args = [`${freePort()}`];
    const wrapper = ["prlimit", "--nofile=64"];
    await using server = await listening(
      Script.start(SERVER, { args, wrapper }),
    );
    using first = await Deno.connect(server.address);
    assert.equal(await ask(first, "first\n"), "FIRST\n");
    const others = await Promise.all(
      Array.from({ length: 80 }, () => Deno.connect(server.address)),
    );
    assert.equal(await ask(first, "again\n"), "AGAIN\n");
    for (const other of others) other.close();
    assert.equal(await talk(server.address, "newcomer\n"), "NEWCOMER\n");
  },
);

Deno.test("short pair - no server, and a server that resets: a stack trace, exit code 1", async () => {
  await using server = await resetHere("data");
  for (
    const [port, error] of [
      [freePort(), "ConnectionRefused"],
      [server.address.port, "ConnectionReset"],
    ]
  ) {
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
