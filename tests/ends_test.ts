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
  expectSame,
  SERVER,
  startFlood,
  startServer,
  TEXT,
  UPPER,
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
  expectSame(rest, UPPER.subarray(1));
  const exit = await server.script.exit();
  expectExit(exit);
  assert.match(
    exit.stdout,
    /\nstopping, 2 open; Ctrl-C again stops at once\n/,
  );
  assert.match(exit.stdout, / closed, .*: the server is stopping\n/);
  assert.doesNotMatch(exit.stdout, /cannot accept/);
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

/** What the log's reader does after the first line, in the shell. */
const READERS = {
  "waits": "read -u 3; cat", // for our word
  "waits for ever": "exec >&- 2>&-; read -u 3",
  "has gone": "",
};

for (const [reader, then] of Object.entries(READERS)) {
  Deno.test(`ends - a log whose reader ${reader} stops nobody`, {
    ignore: windows || !has("bash"),
  }, async () => {
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
    const exit = await within(20, server.script.exit());
    assert.ok(exit, "the server does not end before its log is read");
    expectExit(exit);
    if (reader === "waits") expectAllEvents(exit.stdout, 5001);
  });
}

/** Expects that lines of events, and lines that are lost, are so many together. */
function expectAllEvents(log: string, count: number): void {
  const shown = log.match(/ connected, | closed, |^stopping, /gm)!.length;
  const lost = [...log.matchAll(/^(\d+) lines lost$/gm)]
    .reduce((sum, [, lines]) => sum + Number(lines), 0);
  assert.equal(shown + lost, count, "lines that are lost are counted");
}

Deno.test("ends - lines that a full pipe refuses are counted (python3)", {
  ignore: windows || !has("python3"),
}, async () => {
  // The log goes to a pipe that does not block, and is read when we say so.
  const program = `
import os, subprocess, sys, threading
reader, writer = os.pipe()
os.set_blocking(writer, False)
server = subprocess.Popen(sys.argv[1:], stdout=writer)
os.close(writer)
def show():
    while log := os.read(reader, 65536): os.write(1, log)
os.write(1, os.read(reader, 65536))
sys.stdin.readline()
showing = threading.Thread(target=show)
showing.start()
sys.stdin.readline()
server.terminate()
showing.join()
sys.exit(server.wait())
`;
  const wrapper = ["python3", "-c", program];
  await using server = await startServer([], { wrapper });
  const { script, address } = server;
  for (let client = 0; client < 1500; client++) await talk(address, "a\n");
  await script.write("\n");
  let clients = 1500;
  while (!/ lines lost\n/.test(script.stdout)) { // the next line says it
    assert.ok(clients < 1600, "nothing is said of lines that are lost");
    await talk(address, "a\n");
    clients += 1;
  }
  await script.write("\n");
  const exit = await script.exit();
  expectExit(exit);
  expectAllEvents(exit.stdout, 2 * clients + 1);
});

Deno.test("ends - who was quiet before the signal is not cut at once", {
  ignore: windows,
}, async () => {
  await using server = await startServer(["--idle-timeout=0"]); // never
  using client = await Deno.connect(server.address);
  await ask(client, "hello\n");
  await pause(3000); // no event ends this wait: it is longer than 2.5 s
  server.script.kill();
  await server.script.stdoutMatch(/stopping/);
  await pause(500); // two ticks of the server's clock
  assert.equal(await ask(client, "still here\n"), "STILL HERE\n");
});

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
  await using _flood = await startFlood(server.address, 4);
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
