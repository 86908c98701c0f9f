// SPDX-License-Identifier: 0BSD

/** How the server ends: by signals, with its terminal, and without its log. */

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { listening, Script } from "../lib/parts/process.ts";
import { writeAll } from "../lib/parts/tcp.ts";
import { within } from "../lib/parts/waits.ts";
import { has, TERMINAL } from "./machine.ts";
import {
  expectExit,
  expectUpper,
  SERVER,
  startFlood,
  startServer,
  TEXT,
} from "./pair.ts";
import { ask, readAll, talk } from "./sockets.ts";

// On Windows a signal from outside just ends the process:
// https://github.com/denoland/deno/pull/32689
const windows = Deno.build.os === "windows";

Deno.test("ends - after the first signal transfers go on, nobody comes in", {
  ignore: windows,
}, async () => {
  await using server = await startServer();
  using idle = await Deno.connect(server.address);
  await ask(idle, "hello\n");
  using busy = await Deno.connect(server.address);
  const sending = writeAll(busy, TEXT).then(() => busy.closeWrite());
  sending.catch(() => {}); // told where it is awaited
  await busy.read(new Uint8Array(1)); // and no more until the idle one is gone
  server.script.kill("SIGTERM");
  assert.equal((await readAll(idle)).length, 0);
  const connecting = Deno.connect(server.address);
  const refused = Deno.errors.ConnectionRefused;
  await assert.rejects(connecting, refused, "a new client came in");
  const [rest] = await Promise.all([readAll(busy), sending]);
  expectUpper(rest, 1);
  const exit = await server.script.exit();
  expectExit(exit);
  assert.match(
    exit.stdout,
    /\nstopping, 2 open; Ctrl-C again stops at once\n/,
  );
  assert.match(exit.stdout, / closed, .*: the server is stopping\n/);
});

Deno.test("ends - the second signal drops everything, exit code 130", {
  ignore: windows,
}, async () => {
  await using server = await startServer();
  using busy = await Deno.connect(server.address);
  writeAll(busy, TEXT).catch(() => {}); // it is lost
  await busy.read(new Uint8Array(1)); // and no more: the transfer is stuck
  server.script.kill("SIGINT");
  await server.script.stdoutMatch(/stopping/);
  await pause(150); // within a tenth of a second two are one: see below
  server.script.kill("SIGINT");
  expectExit(await server.script.exit(), { code: 130 });
});

Deno.test("ends - a Ctrl-C that `deno task` passes on is one (python3)", {
  ignore: windows || !has("python3"),
}, async () => {
  const task = [Deno.execPath(), "task", "--eval"];
  const command = `"${Deno.execPath()}" run --allow-net "${SERVER}" --port 0`;
  await using server = await listening(
    Script.command([...TERMINAL, ...task, command]),
  );
  const { script } = server;
  using _idle = await Deno.connect(server.address);
  await script.stdoutMatch(/ connected, 1 open/);
  await script.write("\x03"); // the terminal makes a signal of it
  const { code, stdout } = await script.exit();
  assert.match(stdout, /: the server is stopping\r\n/);
  assert.equal(code, 0);
});

for (const reader of ["waits", "has gone"]) {
  Deno.test(`ends - a log whose reader ${reader} stops nobody`, {
    ignore: windows || !has("bash"),
  }, async () => {
    // The reader shows the first line. The others it reads when we say so.
    const then = reader === "waits" ? "read -u 3; cat" : "";
    const shell = `exec 3<&0; exec "$@" > >(read -r; echo "$REPLY"; ${then})`;
    const wrapper = ["bash", "-c", shell, "bash"];
    await using server = await startServer([], { wrapper });
    // Two lines each: far more than a pipe holds (64 KiB on Linux).
    for (let client = 0; client < 2500; client++) {
      const reply = await within(5, talk(server.address, "a\n"));
      assert.equal(reply, "A\n", "the server waits for its log's reader");
    }
    if (reader === "waits") {
      await server.script.write("\n");
      await server.script.stdoutMatch(/ lines lost\n/);
    }
    server.script.kill();
    const exit = await server.script.exit();
    expectExit(exit);
    if (reader === "has gone") return;
    const shown = exit.stdout.match(/ connected, | closed, |^stopping, /gm)!;
    const lost = [...exit.stdout.matchAll(/^(\d+) lines lost$/gm)]
      .reduce((sum, [, count]) => sum + Number(count), 0);
    assert.equal(shown.length + lost, 5001, "lines that are lost are counted");
  });
}

Deno.test("ends - the time in which it is suspended is nobody's silence", {
  ignore: windows,
}, async () => {
  await using server = await startServer(["--idle-timeout", "1"]);
  using client = await Deno.connect(server.address);
  await ask(client, "hello\n");
  await talk(server.address, "next\n"); // now it is done with the first reply
  server.script.kill("SIGSTOP");
  await pause(2000); // no event ends this wait: it is longer than the timeout
  server.script.kill("SIGCONT");
  const [, seconds] = await server.script.stdoutMatch(
    / ([0-9.]+) s: idle for 1 s\n/,
  );
  assert.ok(
    Number(seconds) > 2.5,
    `${seconds} s, and two of them do not count`,
  );
});

Deno.test("ends - Ctrl-C in a flood: ten seconds at most (python3)", {
  ignore: windows || !has("python3"),
}, async () => {
  await using server = await startServer();
  await using _flood = await startFlood(server.address);
  await server.script.stdoutMatch(/ connected, 4 open/);
  const signalled = performance.now();
  server.script.kill("SIGINT");
  const exit = await server.script.exit();
  expectExit(exit);
  const stopped = exit.stdout.match(/: the server stopped\n/g);
  assert.equal(stopped?.length, 4, exit.stdout);
  const took = performance.now() - signalled;
  assert.ok(took < 15_000, `it took ${took} ms, and was to take 10,000`);
});
