// SPDX-License-Identifier: 0BSD

/** What `lib/load.ts` measures, prints, and takes for a wrong reply. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { bulk, messages, WrongReply } from "../lib/load.ts";
import { type Exit, run, Script } from "../lib/parts/process.ts";
import { lines, SENTENCES } from "../lib/parts/texts.ts";
import { freePort } from "./machine.ts";
import { expectExit, ROOT } from "./pair.ts";
import { reads, serveHere, serveRight, writeText } from "./sockets.ts";

function load(port: number, ...args: string[]): Promise<Exit> {
  // Little of everything, so that a test takes a moment.
  const little = ["--megabytes=1", "--clients=2", "--connections=3"];
  return run(Script.start(join(ROOT, "lib", "load.ts"), {
    args: [`--port=${port}`, ...little, "--seconds=1", ...args],
  }));
}

Deno.test("load - prints a table of all that it measured", async () => {
  await using service = serveHere((socket) => serveRight(socket));
  const { code, stdout, stderr } = await load(service.address.port);
  assert.equal(stderr, "", "no progress where there is no terminal");
  assert.match(stdout, /^bulk, greek, clients: 2 +[0-9]+ MB\/s$/m);
  assert.match(stdout, /^messages, connections: 3 .* a second .*µs$/m);
  assert.equal(code, 0);
});

Deno.test("load - ends at the first wrong reply, and keeps what it had measured", async () => {
  const wrong = (text: string) => text.toUpperCase().replace("É", "é");
  await using service = serveHere((socket) => serveRight(socket, wrong));
  const { code, stdout, stderr } = await load(
    service.address.port,
    "--text=ascii,italian",
  );
  assert.match(
    stderr,
    /^load: \S+: bulk, italian, clients: 2: wrong reply: from byte [0-9,]+ on it is "é.*--text ascii.*\n$/,
  );
  assert.match(stdout, /^bulk, ascii, clients: 2 +[0-9]+ MB\/s\n$/);
  assert.equal(code, 1);
});

Deno.test("load - says that nothing listens, as the checker does", async () => {
  const stderr = /^load: no service at .* start the server first.*\n$/;
  expectExit(await load(freePort()), { code: 1, stdout: "", stderr });
});

const upper = (text: string) => text.toUpperCase();

/** Wrong services, and what is said of each. */
const WRONG: [
  name: string,
  serve: (socket: Deno.TcpConn) => Promise<unknown>,
  says: RegExp,
][] = [
  [
    "sends back what came",
    (socket) => serveRight(socket, (text) => text),
    /wrong reply: from byte 1 on it is "[a-z]/,
  ],
  [
    "loses a byte",
    (socket) => serveRight(socket, (text) => upper(text).slice(0, -1)),
    /wrong reply: from byte|no reply for 1 s/,
  ],
  [
    "says a byte twice",
    (socket) => serveRight(socket, (text) => text && `${upper(text)}\n`),
    /wrong reply: /,
  ],
  [
    "says what nobody asked for",
    (socket) => serveRight(socket, (text) => `Reply: ${upper(text)}`),
    /wrong reply: from byte 1 on it is "Reply: /,
  ],
  [
    "answers nothing",
    (socket) => serveRight(socket, () => ""),
    /no reply for 1 s/,
  ],
  [
    "closes after a line",
    async (socket) => {
      for await (const bytes of reads(socket)) {
        return await writeText(socket, upper(new TextDecoder().decode(bytes)));
      }
    },
    /closed a connection after 0 of|reset|broken pipe|os error 1005[34]/i,
  ],
];
for (const [name, serve, says] of WRONG) {
  Deno.test(`bulk(), messages() - notice a service that ${name}`, {
    timeout: 30_000,
  }, async () => {
    await using service = serveHere(serve);
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
  await using service = serveHere((socket) =>
    serveRight(socket, (text) => {
      const reply = last || upper(text);
      last = upper(text);
      return reply;
    })
  );
  await assert.rejects(
    messages(service.address, { connections: 2, seconds: 1 }),
    WrongReply,
  );
});

Deno.test("lines() - the same each time, whole, and of the length asked for", () => {
  for (const name of Object.keys(SENTENCES)) {
    const text = lines(name, 10_000);
    assert.equal(text, lines(name, 10_000));
    assert.ok(text.isWellFormed() && text.endsWith("\n"));
    const { length } = new TextEncoder().encode(text);
    assert.ok(length >= 10_000 && length < 12_000, `${name}: ${length}`);
  }
  assert.throws(() => lines("constructor", 1), RangeError);
});
