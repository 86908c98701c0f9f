// SPDX-License-Identifier: 0BSD

/** The server's limits, under clients that mean harm. */

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { Script, type Server } from "../lib/parts/process.ts";
import { writeAll } from "../lib/parts/tcp.ts";
import { within } from "../lib/parts/waits.ts";
import { cpuSeconds, has, memory } from "./machine.ts";
import { expectSame, startFlood, startServer, TEXT, UPPER } from "./pair.ts";
import { ask, exchange, readAll, talk } from "./sockets.ts";

/** When a test that has no bound of its own on its waits is given up: milliseconds. */
const LIMIT = 60_000;

/** How often the server's log says something. */
function times({ script }: Server, pattern: RegExp): number {
  return [...script.stdout.matchAll(pattern)].length;
}

Deno.test("limits - a silent client is closed, a talking one is not", {
  timeout: LIMIT,
}, async () => {
  await using server = await startServer(["--idle-timeout", "1"]);
  using talking = await Deno.connect(server.address);
  using silent = await Deno.connect(server.address);
  let closed = false;
  readAll(silent).then(() => closed = true, () => {});
  for (let line = 0; !closed; line++) {
    assert.ok(line < 50, "the silent client keeps its place");
    assert.equal(await ask(talking, "still here\n"), "STILL HERE\n");
    await pause(100);
  }
  assert.equal(await ask(talking, "and now\n"), "AND NOW\n");
  await server.script.stdoutMatch(/closed, 0 bytes in, .*: idle for 1 s\n/);
});

Deno.test("limits - a slow reader at the rate of --help can stay", {
  timeout: LIMIT,
}, async () => {
  await using server = await startServer(["--idle-timeout", "3"]);
  using slow = await Deno.connect(server.address);
  const sending = writeAll(slow, TEXT).then(() => slow.closeWrite());
  // --help says 2 MB in each idle timeout.
  const buffer = new Uint8Array(30_000);
  let total = 0;
  for (let due = performance.now();; due += 45) {
    const count = await slow.read(buffer);
    if (count === null) break;
    expectSame(
      buffer.subarray(0, count),
      UPPER.subarray(total, total + count),
    );
    total += count;
    await pause(Math.max(0, due - performance.now()));
  }
  await sending;
  assert.equal(total, UPPER.length, "the end of the reply is lost");
});

Deno.test("limits - of 5,000 silent clients 1,000 come in (python3)", {
  ignore: Deno.build.os === "windows" || !has("python3"),
  timeout: LIMIT,
}, async () => {
  await using server = await startServer(["--idle-timeout", "10"]);
  const program = `
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (5100, hard))
clients = []
for more in sys.stdin:
    for _ in range(int(more)):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", int(sys.argv[1])))
        clients.append(client)
`;
  await using silent = Script.command(
    ["python3", "-c", program, `${server.address.port}`],
  );
  // No more at once than the system's queue holds: of clients beyond it some
  // are never seen by the server (SYN cookies), and these say nothing more.
  for (let open = 100; open <= 1000; open += 100) {
    await silent.write("100\n");
    await server.script.stdoutMatch(new RegExp(`, ${open} open\n`));
  }
  await silent.write("4000\n");
  assert.equal(await talk(server.address, "hello\n"), "HELLO\n");
  // One has left for it. (Its own lines may be lost: a thousand others leave, too.)
  await server.script.stdoutMatch(/: idle for 10 s\n/);
  const beyond = times(server, /, (?!1000)\d{4} open/g);
  assert.equal(beyond, 0, "more clients came in");
  await silent.closeInput();
});

Deno.test("limits - clients that flood do not hold up others (python3)", {
  ignore: !has("python3"),
}, async () => {
  await using server = await startServer();
  await using _flood = await startFlood(server.address, 4);
  for (let newcomer = 0; newcomer < 20; newcomer++) {
    const reply = await within(2, talk(server.address, "hello\n"));
    assert.equal(reply, "HELLO\n", "a newcomer waited two seconds");
  }
});

Deno.test("limits - clients that never read cost little, and leave", {
  ignore: Deno.build.os !== "linux",
  timeout: LIMIT,
}, async () => {
  const places = 50;
  await using server = await startServer(
    [`--max-connections=${places}`, "--idle-timeout=2"],
  );
  await exchange(server.address, TEXT); // as much as a busy client costs
  const before = memory(server.script.pid, "VmRSS");
  const slow = Promise.all(
    Array.from({ length: places }, async () => {
      using connection = await Deno.connect(server.address);
      await assert.rejects(async () => {
        while (true) await connection.write(TEXT); // until it is closed
      });
    }),
  );
  await server.script.stdoutMatch(/, 50 open\n/);
  assert.equal(await talk(server.address, "next\n"), "NEXT\n");
  await slow;
  const cost = (memory(server.script.pid, "VmHWM") - before) / places;
  // tests/README.md has the figure. Without backpressure it is all that they send.
  assert.ok(cost < 4e6, `the server kept ${cost} bytes for each`);
  // The first line, and two lines for each client.
  await server.script.stdoutMatch(/^(.*\n){105}/);
  assert.equal(times(server, /: idle for 2 s\n/g), places);
});

Deno.test("limits - without a descriptor the server waits (prlimit)", {
  ignore: !has("prlimit"),
  timeout: LIMIT,
}, async () => {
  const wrapper = ["prlimit", "--nofile=64"];
  const args = ["--idle-timeout", "3"];
  await using server = await startServer(args, { wrapper });
  const open = await Promise.all(
    Array.from({ length: 80 }, () => Deno.connect(server.address)),
  );
  await server.script.stdoutMatch(/cannot accept: .*\n/);
  const before = cpuSeconds(server.script.pid);
  await readAll(open[0]); // until the idle timeout
  const busy = cpuSeconds(server.script.pid) - before;
  assert.ok(busy < 2, `three seconds took ${busy} s of processor time`);

  // The last ones have come in by now, or do as places become free.
  assert.equal(await ask(open.at(-1)!, "hello\n"), "HELLO\n");
  open.forEach((connection) => connection.close());
  assert.equal(await talk(server.address, "after\n"), "AFTER\n");
  const said = times(server, /cannot accept/g);
  assert.ok(said < 10, `the log says it ${said} times, not once a second`);
});
