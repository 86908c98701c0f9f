// SPDX-License-Identifier: 0BSD

/** What `lib/load.ts` measures, prints, and takes for a wrong reply. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { bulk, messages } from "../lib/load.ts";
import { type Exit, run, Script } from "../lib/parts/process.ts";
import { freePort } from "./machine.ts";
import { expectExit, ROOT } from "./pair.ts";
import { serveHere, serveRight, texts, writeText } from "./sockets.ts";

function load(port: number, ...args: string[]): Promise<Exit> {
  // Little of everything, so that a test takes a moment.
  const little = ["--megabytes=1", "--clients=2", "--connections=3"];
  return run(Script.start(join(ROOT, "lib", "load.ts"), {
    args: [`--port=${port}`, ...little, ...args],
  }));
}

Deno.test("load - prints a table of all that it measured", async () => {
  await using service = serveHere((socket) => serveRight(socket));
  const exit = await load(service.address.port);
  expectExit(exit);
  assert.match(exit.stdout, /^bulk, greek, clients: 2 +[0-9]+ MB\/s$/m);
  assert.match(exit.stdout, /^messages, connections: 3 .* a second .*µs$/m);
});

Deno.test("load - ends at the first wrong reply, and keeps what it had measured", async () => {
  const wrong = (text: string) => text.toUpperCase().replace("É", "é");
  await using service = serveHere((socket) => serveRight(socket, wrong));
  const exit = await load(service.address.port, "--text=ascii,italian");
  const stderr =
    /^load: \S+: bulk, italian, clients: 2: wrong reply: from byte [0-9,]+ on it is "é.*\n$/;
  expectExit(exit, { code: 1, stderr });
  assert.match(exit.stdout, /^bulk, ascii, clients: 2 +[0-9]+ MB\/s\n$/);
});

Deno.test("load - says that nothing listens, as the checker does", async () => {
  const stderr = /^load: no service at .* start the server first.*\n$/;
  expectExit(await load(freePort()), { code: 1, stdout: "", stderr });
});

Deno.test("messages() - says so if no reply comes in the time that is measured", async () => {
  await using service = serveHere(async (socket) => {
    for await (const text of texts(socket)) {
      await pause(1000); // no event ends this wait: it is longer than the time
      await writeText(socket, text.toUpperCase());
    }
  });
  const asked = { connections: 1, seconds: 0.1 };
  const says = /no whole reply within 0\.1 s/;
  await assert.rejects(messages(service.address, asked), says);
});

const upper = (text: string) => text.toUpperCase();

/** Services with a fault: their reply to a text, and what is said of them. */
const WRONG: Record<string, [reply: (text: string) => string, says: RegExp]> = {
  "sends back what came": [(text) => text, /wrong reply: from byte 1 on it is/],
  "loses a byte": [(text) => upper(text).slice(0, -1), /from byte|no reply/],
  "says a byte twice": [(text) => text && `${upper(text)}\n`, /wrong reply: /],
  "answers nothing": [() => "", /no reply for 1 s/],
  "closes": [() => {
    throw new Error("and serveHere() closes the connection");
  }, /closed a connection after 0 of/],
};
for (const [name, [reply, says]] of Object.entries(WRONG)) {
  Deno.test(`bulk(), messages() - notice a service that ${name}`, {
    timeout: 30_000,
  }, async () => {
    await using service = serveHere((socket) => serveRight(socket, reply));
    const asked = { timeout: 1, megabytes: 1, connections: 2, seconds: 1 };
    for (const measure of [bulk, messages]) {
      await assert.rejects(measure(service.address, asked), says);
    }
  });
}

Deno.test("bulk() - notices a service that says more at the end of input", async () => {
  await using service = serveHere(async (socket) => {
    await serveRight(socket);
    await writeText(socket, "bye\n");
  });
  await assert.rejects(
    bulk(service.address, { megabytes: 1 }),
    /wrong reply: more came after its end/,
  );
});

Deno.test("messages() - notices a reply that is another client's", async () => {
  let last = "";
  const other = (text: string) => {
    const reply = last || upper(text);
    last = upper(text);
    return reply;
  };
  await using service = serveHere((socket) => serveRight(socket, other));
  await assert.rejects(
    messages(service.address, { connections: 2, seconds: 1 }),
    /wrong reply: /,
  );
});
