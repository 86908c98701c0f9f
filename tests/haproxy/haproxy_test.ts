// SPDX-License-Identifier: 0BSD

/** Three servers behind HAProxy: what README.md beside this file promises. */

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { conform } from "../../lib/conformance.ts";
import { Script, type Server } from "../../lib/parts/process.ts";
import { type Address, writeAll } from "../../lib/parts/tcp.ts";
import { within } from "../../lib/parts/waits.ts";
import { freePort, has } from "../machine.ts";
import {
  expectSame,
  expectUppercase,
  startClient,
  startServer,
  TEXT,
  UPPER,
} from "../pair.ts";
import { readAll, talk } from "../sockets.ts";

Deno.test("haproxy - three servers are as one", {
  ignore: !has("haproxy"),
}, async (t) => {
  await using stack = new AsyncDisposableStack();
  const servers: Server[] = [];
  while (servers.length < 3) {
    servers.push(stack.use(await startServer([`--port=${freePort()}`])));
  }
  const port = freePort();
  const [one, two, three] = servers.map(({ address }) => `${address.port}`);
  const file = join(import.meta.dirname!, "haproxy.cfg");
  await using haproxy = Script.command(["haproxy", "-db", "-f", file], {
    env: { PORT: `${port}`, PORT1: one, PORT2: two, PORT3: three },
  });
  // HAProxy listens before it sends the first check, which says "check\n".
  for (const { script } of servers) {
    await script.stdoutMatch(/closed, 6 bytes in, 6 bytes out/);
  }
  const address = { hostname: "127.0.0.1", port };

  await t.step("no client notices that a server stops and starts", async () => {
    const [, { script, address: { port } }] = servers;
    // Nobody else is connected, so each server gets one of the three.
    const transfers = [];
    while (transfers.length < 3) transfers.push(await startTransfer(address));
    script.kill("SIGTERM");
    await script.stdoutMatch(/stopping, /);
    assert.ok(await within(10, refuses(port)), "it still takes new clients");
    await expectAnswers(address); // HAProxy has not noticed yet
    for (const expectRest of transfers) await expectRest();
    assert.equal((await script.exit()).code, 0);

    await haproxy.stderrMatch(/uppercase\/two is DOWN/);
    const again = stack.use(await startServer([`--port=${port}`]));
    await haproxy.stderrMatch(/uppercase\/two is UP/);
    await expectAnswers(address);
    await again.script.stdoutMatch(/closed, 9 bytes in/); // some come to it
  });

  await t.step("every byte comes to client.ts", async () => {
    await expectUppercase(startClient(address), "perché no? ".repeat(500_000));
  });

  await t.step("all promises of such a service are kept", async () => {
    const { results } = await conform(address, { budget: 300 });
    const notKept = results.filter(({ outcome }) => outcome !== "kept");
    assert.deepEqual(notKept, []);
  });
});

/** Waits until nobody listens on a port any more, and gives true. */
async function refuses(port: number): Promise<boolean> {
  let isRefused = false;
  while (!isRefused) {
    await pause(10);
    await Deno.connect({ hostname: "127.0.0.1", port }).then(
      (connection) => connection.close(),
      (error) => isRefused = error instanceof Deno.errors.ConnectionRefused,
    );
  }
  return isRefused;
}

/** More than all socket buffers on the way hold: a transfer waits for its reader. */
const LONG = Buffer.concat(Array(5).fill(TEXT));
const LONG_REPLY = Buffer.concat(Array(5).fill(UPPER));

/**
 * Starts a client that ends its input, and waits for the beginning of its reply.
 * The function that it gives expects the rest.
 */
async function startTransfer(address: Address): Promise<() => Promise<void>> {
  const connection = await Deno.connect(address);
  const sent = writeAll(connection, LONG).then(() => connection.closeWrite());
  const first = new Uint8Array(1000);
  const count = await within(10, connection.read(first));
  assert.ok(count, "the reply does not begin");
  return async () => {
    using _ = connection;
    const rest = await within(10, Promise.all([readAll(connection), sent]));
    assert.ok(rest, "the reply does not end");
    expectSame(rest[0], LONG_REPLY.subarray(count));
  };
}

/** Twelve new clients, one after the other, are all answered. */
async function expectAnswers(address: Address): Promise<void> {
  for (let number = 1; number <= 12; number++) {
    const reply = await within(5, talk(address, "good day\n"));
    assert.equal(reply, "GOOD DAY\n", `new client ${number} is not answered`);
  }
}
