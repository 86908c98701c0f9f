// SPDX-License-Identifier: 0BSD

import assert from "node:assert/strict";
import { join } from "node:path";
import { bulk, hold, messages, WrongReply } from "../lib/load.ts";
import { type Ending, Script } from "../lib/parts/process.ts";
import { writeAll } from "../lib/parts/tcp.ts";
import { lines, SENTENCES } from "../lib/parts/texts.ts";
import { freePort } from "./machine.ts";
import { serveHere, type ServerHere } from "./serve.ts";

const LOAD = join(import.meta.dirname!, "..", "lib", "load.ts");

/** Little of everything, so that a test takes a moment. */
const LITTLE = ["--megabytes=1", "--clients=2", "--connections=3", "--held=4"];

async function load(...args: string[]): Promise<Ending> {
  await using script = Script.start(LOAD, { args });
  return await script.ending();
}

/** A service with the reply to each chunk that it is told; null closes. */
function replying(reply: (text: string) => string | null): ServerHere {
  return serveHere(async (socket) => {
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(64 * 1024);
    while (true) {
      const count = await socket.read(buffer);
      if (count === null) return;
      const chunk = buffer.subarray(0, count);
      const text = reply(decoder.decode(chunk, { stream: true }));
      if (text === null) return;
      await writeAll(socket, new TextEncoder().encode(text));
    }
  });
}

const uppercase = (text: string) => text.toUpperCase();

Deno.test("load - prints a table of all that it measured", async () => {
  await using service = replying(uppercase);
  const args = [`--port=${service.address.port}`, ...LITTLE, "--seconds=1"];
  const { code, stdout, stderr } = await load(...args);
  assert.equal(stderr, "", "no progress where there is no terminal");
  assert.match(stdout, /^bulk, greek, clients: 2 +[0-9]+ MB\/s$/m);
  assert.match(stdout, /^messages, connections: 3 .* a second .*µs$/m);
  assert.match(stdout, /^held, connections: 4 +all/m);
  assert.equal(code, 0);
});

Deno.test("load - with --json prints one object, with --only that alone", async () => {
  await using service = replying(uppercase);
  const { code, stdout } = await load(
    `--port=${service.address.port}`,
    ...LITTLE,
    "--only=bulk",
    "--text=german,emoji",
    "--json",
  );
  const { address, bulk, messages, held } = JSON.parse(stdout);
  assert.deepEqual(address, service.address);
  const texts = bulk.map(({ text }: { text: string }) => text);
  assert.deepEqual(texts, ["german", "emoji"]);
  assert.ok(bulk[0].megabytes >= 1 && bulk[0].megabytesPerSecond > 0);
  assert.deepEqual({ messages, held }, { messages: [], held: [] });
  assert.equal(code, 0);
});

Deno.test("load - ends at the first wrong reply, and keeps what it had measured", async () => {
  await using service = replying((text) => uppercase(text).replace("É", "é"));
  const args = [`--port=${service.address.port}`, ...LITTLE];
  const { code, stdout, stderr } = await load(...args, "--text=ascii,italian");
  assert.match(
    stderr,
    /^load: \S+: bulk, italian, clients: 2: wrong reply: from byte [0-9]+ on it is "é.*--text ascii.*\n$/,
  );
  assert.match(stdout, /^bulk, ascii, clients: 2 +[0-9]+ MB\/s\n$/);
  assert.equal(code, 1);
  const json = await load(...args, "--text=italian", "--json");
  assert.match(JSON.parse(json.stdout).error, /bulk, italian.*wrong reply/);
});

Deno.test("load - says that nothing listens, as the checker does", async () => {
  const { code, stdout, stderr } = await load(`--port=${freePort()}`);
  assert.match(stderr, /^load: no service at .* start the server first.*\n$/);
  assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
});

Deno.test("load - wrong usage is one line and exit code 2", async () => {
  const mistakes =
    "--port=0 --megabytes= --clients=1,,2 --connections=0 --only=speed " +
    "--text=klingon --hostname= --nonsense stray";
  for (const mistake of mistakes.split(" ")) {
    const { code, stdout, stderr } = await load(mistake);
    assert.match(stderr, /^load: .*\n$/, mistake);
    assert.deepEqual({ code, stdout }, { code: 2, stdout: "" }, mistake);
  }
});

const wrong: Record<string, (text: string) => string | null> = {
  "sends back what came": (text) => text,
  "loses a byte": (text) => uppercase(text).slice(0, -1),
  "says a byte twice": (text) => `${uppercase(text)}\n`,
  "says what nobody asked for": (text) => `Reply: ${uppercase(text)}`,
  "closes at once": () => null,
};
for (const [name, reply] of Object.entries(wrong)) {
  Deno.test(`bulk(), messages(), hold() - notice a service that ${name}`, async () => {
    await using service = replying(reply);
    const asked = { timeout: 1, megabytes: 1, connections: 2, seconds: 1 };
    for (const measure of [bulk, messages, hold]) {
      await assert.rejects(
        () => measure(service.address, asked),
        /wrong reply|closed a connection|no reply for 1 s|reset|broken pipe|os error 1005[34]/i,
      );
    }
  });
}

Deno.test("messages() - notices a reply that is another client's", async () => {
  let last = "";
  await using service = replying((text) => {
    const reply = last || uppercase(text);
    last = uppercase(text);
    return reply;
  });
  await assert.rejects(
    messages(service.address, { connections: 2, seconds: 1 }),
    WrongReply,
  );
});

Deno.test("hold() - a connection that was lost is noticed", async () => {
  let replies = 0;
  await using service = replying((text) =>
    ++replies > 2 ? null : uppercase(text)
  );
  using held = await hold(service.address, { connections: 2 });
  await assert.rejects(held.each(({ exchangeLine }) => exchangeLine()));
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
