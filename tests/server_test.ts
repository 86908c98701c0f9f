// SPDX-License-Identifier: 0BSD

/** The server as a process: what a client, an operator and a log reader see. */

import assert from "node:assert/strict";
import { checks, conform } from "../lib/conformance.ts";
import { reset, writeAll } from "../lib/parts/tcp.ts";
import { has } from "./machine.ts";
import {
  changed,
  expectExit,
  expectSame,
  expectUppercase,
  SERVER,
  startClient,
  startServer,
  TEXT,
  UPPER,
} from "./pair.ts";
import { ask, exchange, readAll } from "./sockets.ts";

for (const check of checks) {
  Deno.test(`server - ${check.name}: ${check.promise}`, async () => {
    await using server = await startServer();
    const options = { checks: [check], budget: 300 }; // the machine may be busy
    const report = await conform(server.address, options);
    const [{ outcome, came }] = report.results;
    assert.equal(outcome, "kept", came);
  });
}

Deno.test("server - listens on IPv4, IPv6 and names", async () => {
  const cases: [listensOn: string, shown: RegExp, hostname: string][] = [
    ["0.0.0.0", / on 0\.0\.0\.0:/, "127.0.0.1"],
    ["localhost", / on (127\.0\.0\.1|\[::1\]):/, "localhost"],
  ];
  if (Deno.networkInterfaces().some(({ address }) => address === "::1")) {
    cases.push(["::1", / on \[::1\]:/, "::1"], ["::", / on \[::\]:/, "::1"]);
    cases.push(["[::1]", / on \[::1\]:/, "[::1]"]);
  }
  for (const [listensOn, shown, hostname] of cases) {
    await using server = await startServer(["--hostname", listensOn]);
    assert.match(server.script.stdout, shown);
    const { port } = server.address;
    await expectUppercase(startClient({ hostname, port }), "ciao\n");
  }
});

Deno.test("server - the log says where it listens, and has a line when a client comes and one when it goes", async () => {
  await using server = await startServer();
  using connection = await Deno.connect(server.address);
  assert.equal(await ask(connection, "ß\n"), "SS\n");
  const { hostname, port } = connection.localAddr as Deno.NetAddr;
  await connection.closeWrite();
  await readAll(connection);
  await server.script.stdoutMatch(/closed.*\n/);
  const [first, came, went, ...more] = server.script.stdout.split("\n");
  assert.equal(first, `listening on 127.0.0.1:${server.address.port}`);
  assert.equal(came, `${hostname}:${port} connected, 1 open`);
  assert.match(
    went!,
    new RegExp(
      `^${hostname}:${port} closed, 3 bytes in, 3 bytes out, \\d+\\.\\d s$`,
    ),
  );
  assert.deepEqual(more, [""], "a client cost more than two lines");
});

Deno.test("server - a longer message is soon answered in one piece", async () => {
  // Two pieces show that the server's buffer is still small: it was filled, and
  // its client had to rest.
  await using server = await startServer();
  using connection = await Deno.connect(server.address);
  assert.equal(await mostPieces(connection), 1);
});

Deno.test("server - buffers are smaller the more clients there are", async () => {
  await using copy = await changed(SERVER, "= 32 * 1024 * 1024", "= 4096");
  await using server = await startServer([], {}, copy.path);
  using first = await Deno.connect(server.address);
  assert.equal(await mostPieces(first), 1);
  using second = await Deno.connect(server.address);
  assert.equal(await mostPieces(second), 2);
});

/** Sends 3 KB again and again. Tells in how many pieces a reply comes at most. */
async function mostPieces(connection: Deno.TcpConn): Promise<number> {
  const message = TEXT.subarray(0, 3000);
  const buffer = new Uint8Array(message.length);
  let most = 0;
  for (let round = 0; round < 50; round++) {
    await writeAll(connection, message);
    let pieces = 0;
    for (let came = 0; came < message.length; pieces++) {
      const count = await connection.read(buffer);
      assert.ok(count, "the connection ended");
      came += count;
    }
    if (round >= 2) most = Math.max(most, pieces); // the buffers have grown
  }
  return most;
}

Deno.test("server - a first message of 3 KB does not rest, a flood does", async () => {
  await using copy = await changed(
    SERVER,
    "  rest ??= untilCalm();",
    '  if (rest === undefined) log("a rest");\n  rest ??= untilCalm();',
  );
  await using server = await startServer([], {}, copy.path);
  for (let client = 0; client < 3; client++) {
    await exchange(server.address, TEXT.subarray(0, 3000));
  }
  await server.script.stdoutMatch(/( closed, [^]*){3}/);
  assert.doesNotMatch(server.script.stdout, /a rest/);
  await exchange(server.address, TEXT);
  await server.script.stdoutMatch(/a rest\n/);
});

Deno.test("server - a rest ends after two calm pauses, or after 50 pauses", async () => {
  const before = "    calm = activity === before ? calm + 1 : 0;\n";
  const shown = "    log(`pause ${pauses + 1}, calm: ${calm}`);\n";
  await using calm = await changed(SERVER, before, before + shown);
  const never = "    calm = 0; // as if others always moved bytes\n";
  await using busy = await changed(SERVER, before, never + shown);
  const wanted: [path: string, last: RegExp, tooMuch: RegExp][] = [
    [calm.path, /calm: 2/g, /calm: 3/],
    [busy.path, /pause 50,/g, /pause 51,/],
  ];
  for (const [path, last, tooMuch] of wanted) {
    await using server = await startServer([], {}, path);
    expectSame(await exchange(server.address, TEXT), UPPER);
    const [log] = await server.script.stdoutMatch(/^[^]* closed, /);
    assert.doesNotMatch(log, tooMuch);
    // A turn is 100 ms, and 6 MB take a few. They fill some 46 large buffers.
    const rests = log.match(last)?.length ?? 0;
    assert.ok(rests > 0 && rests < 20, `${rests} rests`);
  }
});

Deno.test("server - half a character before the end of input comes back", async () => {
  await using server = await startServer();
  const reply = await exchange(server.address, Uint8Array.of(0x61, 0xc3));
  assert.equal(reply.toHex(), "41c3");
});

Deno.test("server - a reset in a transfer is one line of the log", async () => {
  await using server = await startServer();
  await reset(server.address, async (send, reply) => {
    send(TEXT);
    await reply;
  });
  // The system's words follow: "Connection reset by peer", for example.
  await server.script.stdoutMatch(/^.*\n.* connected, .*\n.* s: .+\n$/);
  server.script.kill();
  expectExit(await server.script.exit());
});

Deno.test("server, client - small packets go at once (strace)", {
  ignore: !has("strace"),
}, async () => {
  const wrapper = ["strace", "-D", "-f", "-e", "trace=setsockopt"];
  await using server = await startServer([], { wrapper });
  await using client = startClient(server.address, { wrapper });
  await client.write("hello\n");
  await client.stdoutMatch(/HELLO\n/);
  for (const script of [client, server.script]) {
    script.kill();
    const { stderr } = await script.exit();
    assert.match(stderr, /TCP_NODELAY, \[1\]/, "a small packet may wait");
  }
});
