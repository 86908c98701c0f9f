// SPDX-License-Identifier: 0BSD

// Runs lib's checks against servers that are right and servers that are wrong
// in one way, and holds them to finding just that.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import {
  type Check,
  checks,
  conform,
  type Report,
} from "../lib/conformance.ts";
import { listening, Script } from "../lib/parts/process.ts";
import { within } from "../lib/parts/tcp.ts";
import { has } from "./machine.ts";
import { serveHere, serveRight, writeText } from "./sockets.ts";

const DENO = [Deno.execPath(), "run", "--allow-net"];

const HERE = import.meta.dirname!;

/** What breaks a check only by chance, and is asked again, 30 times at most. */
const BY_CHANCE = [
  "pipe() in Node",
  "dies of a failed write",
  "never closes a descriptor",
  "clients share a static buffer",
  "looks at no result of write()",
];

/** The words of a text, where a list of strings would be long. */
function words(text: string): string[] {
  return text.match(/\S+/g) ?? [];
}

const ALL = checks.map(({ name }) => name).join(" ");

/** All checks but some. */
function without(some: string): string {
  return words(ALL).filter((name) => !words(some).includes(name)).join(" ");
}

/** A server, and what the checks have to say of it. */
interface Row {
  name: string;
  /** How it is started, on a free port. */
  command: string[];
  /** The checks that it is asked. @default all */
  asked?: string;
  /** The checks that it does not keep. */
  breaks: string;
  /** Words from each cause that is told. */
  cause?: RegExp;
  /** Words from the remark on a check that it keeps. @default no remark */
  remark?: RegExp;
  /** It is a textbook's server, which never meant to keep them. @default false */
  oneReply?: boolean;
  /** The last of them ends it, so it is asked no more. @default false */
  dies?: boolean;
}

/** Those that take little time. */
const QUICK = without("pause slow-reader never-reads early-reset");

// -------------------------------------------------------------- ordinary servers

const ORDINARY: Row[] = [
  {
    name: "a textbook's server in Java",
    command: ["java", `${HERE}/peers/Textbook.java`],
    // An empty connection gives it null for a line, and it dies of that.
    breaks: "several-lines pieces no-line-end crlf conversation order " +
      "two-clients slow-reader letters special cuts " +
      "first-character empty",
    cause: /another encoding/, // of what writeBytes() makes of accents
    oneReply: true,
    dies: true,
  },
  {
    name: "a thread for each client in Java",
    command: ["java", `${HERE}/peers/Threads.java`],
    breaks: "",
  },
  {
    name: "asyncio in Python",
    command: ["python3", `${HERE}/peers/asyncio.py`],
    breaks: "",
  },
  {
    name: "streams in Node",
    command: ["node", `${HERE}/peers/node.mjs`],
    breaks: "",
  },
  {
    // Without -t socat drops replies 0.5 s after a half-close; without stdbuf
    // tr keeps them in a buffer.
    name: "socat with tr, which knows A to Z alone",
    command: [
      ...["socat", "-dd", "-lf", "/dev/stdout", "-t", "60"],
      "TCP-LISTEN:0,bind=127.0.0.1,fork,backlog=128",
      "EXEC:stdbuf -o0 tr a-z A-Z",
    ],
    breaks: "letters special",
    cause: /only A to Z/,
  },
  {
    name: "byte by byte in Python, which knows A to Z alone",
    command: ["python3", `${HERE}/peers/bytes.py`],
    // Megabytes take long.
    asked: without(
      "pause slow-reader never-reads early-reset long-line order cuts",
    ),
    breaks: "letters special",
    cause: /only A to Z/,
  },
  {
    // It loses the end of late replies, too, but by chance: pipe() in Node does.
    name: "the recipe",
    command: [...DENO, `${HERE}/peers/recipe.ts`, "0"],
    asked: without("slow-reader"),
    breaks: "first-character early-reset", // it has two faults
    cause: /ignoreBOM|accept\(\) itself fails/,
    dies: true,
  },
  {
    // It lacks allowHalfOpen.
    name: "pipe() in Node",
    command: ["node", `${HERE}/wrong/pipe.mjs`],
    asked: "slow-reader",
    breaks: "slow-reader",
    cause: /before all was sent back/,
  },
];

// ----------------------------------------------------------------- wrong servers

/** Checks that compare a reply with what was sent, but for the slow ones. */
const CONTENT =
  "uppercase untouched zero-byte several-lines pieces no-line-end crlf " +
  "long-line conversation order half-close two-clients hundred letters " +
  "special cuts first-character";

/** Checks that send more than 64 KB on a connection. */
const LONG = "long-line order half-close slow-reader cuts";

/**
 * Faults of `wrong/server.ts`, the checks that have to find each, and words
 * from each cause that is told. It is asked these checks and those that take
 * little, unless other ones are named.
 */
const FAULTS: Record<
  string,
  [breaks: string, cause?: RegExp, more?: Partial<Row>]
> = {
  "loses line ends": [CONTENT, /the line ends are lost/],
  "capitalizes": [`${CONTENT} slow-reader`, /not all letters/],
  "swaps case": ["uppercase untouched letters special cuts", /swapcase/],
  "answers the same to everybody": [
    `${CONTENT} slow-reader empty`,
    /does not depend on what was sent/,
  ],
  "speaks HTTP": [`${CONTENT} slow-reader empty`, /it speaks HTTP/],
  "waits for \\r\\n": ["uppercase", /it waits for \\r\\n/, { dies: true }],
  "waits for a length before the text": ["uppercase", /the text's length/, {
    dies: true,
  }],
  "decodes ASCII alone": ["letters special cuts first-character", /decoder's/],
  "serves its first client alone": ["untouched", /belongs in a loop/, {
    dies: true,
  }],
  "a new reader for each line": [
    "several-lines",
    /one reader for each connection/,
    { asked: "several-lines conversation" },
  ],
  "one line a connection, and no close": [
    "half-close",
    /never closes/,
    { asked: "uppercase interactive half-close", oneReply: true },
  ],
  "serves whom accept() gave last": ["hundred", /threads share one/, {
    asked: "hundred",
  }],
  "pauses and never resumes": [
    "long-line order",
    /has stopped reading/,
    // Each costs two time limits.
    { asked: "uppercase several-lines long-line order" },
  ],
  "one client at a time": ["two-clients hundred never-reads", /in turn/],
  "one client that does not read holds up all": ["never-reads", /holds up all/],
  "drops the tail at half-close": [
    "no-line-end half-close slow-reader",
    /before all was sent back: .*only then close/,
  ],
  "never closes": ["half-close empty", /after fork\(\) in the parent/],
  "replies at the end only": ["interactive", /flush/],
  "greets each client": [`${CONTENT} empty`, /nobody asked for \(a greeting/],
  "changes line ends": ["no-line-end crlf", /line ends or blanks were changed/],
  "takes an empty line for the end": [
    "several-lines half-close",
    /an empty line/,
  ],
  "sends its buffer whole": [CONTENT, /a buffer is sent whole/],
  "lower-cases A to Z alone": [CONTENT, /opposite of toUpperCase/],
  "never flushes": ["uppercase", /send and flush all/, { dies: true }],
  "writes Latin-1": [
    "letters special cuts first-character",
    /another encoding/,
  ],
  "uppercases letter by letter": ["special", /letter is turned by itself/],
  "uppercases A to Z alone": ["letters special", /only A to Z/],
  "takes a byte order mark away": ["first-character", /ignoreBOM/],
  "ten clients at a time": ["hundred", /pool of threads/],
  "keeps replies in memory": ["", undefined, {
    asked: "never-reads",
    remark: /took all 20 MB/,
  }],
  "none": [""],
  "cuts characters": ["cuts", /was cut between two reads/],
  "forgets a last line without line end": ["no-line-end", /is forgotten/],
  "mixes two clients' buffers": ["two-clients", /share a buffer/],
  "has lines of 64 KB at most": ["long-line", /scanner's limit/],
  "closes after 2 s without a byte": [
    "pause",
    /gave up a client that paused/,
    { asked: "pause" }, // on a busy machine other checks may take it 2 s
  ],
  "closes after the first packet": [
    "pieces long-line conversation order two-clients slow-reader cuts",
    /one read\(\) for a line/,
    { oneReply: true },
  ],
  "sends the halves of a long read in turn": [LONG, /out of order/],
  "dies of bytes that are no text": ["not-text", /decoder's error/, {
    dies: true,
  }],
  "dies of an empty connection": ["empty", /gives null/, { dies: true }],
  "dies of a reset": ["reset", /catch errors where a client is served/, {
    dies: true,
  }],
  "dies of a failed write": ["reset", /in C ignore SIGPIPE/, { dies: true }],
  "dies of an early reset": ["early-reset", /accept\(\) itself fails/, {
    dies: true,
  }],
  "never closes a descriptor": ["early-reset", /no descriptor/, {
    asked: "early-reset",
    dies: true,
  }],
  "clients share a static buffer": ["hundred", /share a buffer/, {
    asked: "hundred",
  }],
  "looks at no result of write()": [
    "slow-reader",
    /lost, doubled|send\(\) may take a part/,
    { asked: "slow-reader" },
  ],
  "takes strlen() for the count": ["zero-byte", /strlen/],
  "never sees the end of input": ["order", /without end/, { asked: "order" }],
  "sleeps 200 ms for each 4 KB": ["order", /too slow/, { asked: "order" }],
};

const WRONG = Object.entries(FAULTS).map(
  ([name, [breaks, cause, more]]): Row => {
    const command = [...DENO, `${HERE}/wrong/server.ts`, name];
    // So few descriptors that they are used up on a busy machine, too.
    const few = name === "never closes a descriptor"
      ? ["prlimit", "--nofile=64"]
      : [];
    const asked = `${breaks} ${QUICK}`;
    return {
      name,
      command: [...few, ...command],
      asked,
      breaks,
      cause,
      ...more,
    };
  },
);

// ------------------------------------------------------------------- the tests

async function report(server: Row): Promise<Report> {
  await using running = await listening(Script.command(server.command));
  const names = words(server.asked ?? ALL);
  return await conform(running.address, {
    checks: checks.filter(({ name }) => names.includes(name)),
    timeout: 2.5,
    budget: 300, // eight servers share the machine
  });
}

/** Throws unless the checks say of a server just what is to be said. */
async function judge(server: Row): Promise<void> {
  const { breaks, cause, oneReply = false, dies = false } = server;
  let found = await report(server);
  for (let more = BY_CHANCE.includes(server.name) ? 29 : 0; more > 0; more--) {
    if (found.results.some(({ outcome }) => outcome !== "kept")) break;
    found = await report(server);
  }
  const broken = words(breaks);
  let left = broken.length;
  const expected = found.results.map(({ name }) => {
    if (!broken.includes(name)) {
      return `${name}: ${dies && left === 0 ? "not asked" : "kept"}`;
    }
    left -= 1;
    // A textbook's server is held to the checks of one line alone.
    const check = checks.find((check) => check.name === name)!;
    const isMeant = !oneReply || check.oneReply;
    return `${name}: ${isMeant ? "broken" : "not meant"}`;
  });
  assert.deepEqual(
    found.results.map(({ name, outcome }) => `${name}: ${outcome}`),
    expected,
    "the checks that its fault breaks",
  );
  assert.equal(found.oneReply, oneReply);
  const explained = found.results.filter(({ outcome }) => outcome === "broken");
  for (const { sent, came, usualCause } of explained) {
    assert(sent && came);
    assert.match(usualCause!, cause!);
  }
  const remarks = found.results.flatMap(({ remark = [] }) => remark);
  assert.match(remarks.join(), server.remark ?? /^$/);
}

Deno.test({
  name: "checks - a right server in any language keeps them all, and a wrong " +
    "one breaks just those of its fault",
  sanitizeExit: false, // which would have one step at a time
  async fn(t) {
    // Eight at a time: most of what they take is waiting.
    const next = [...ORDINARY, ...WRONG].values();
    await Promise.all(Array.from({ length: 8 }, async () => {
      for (const server of next) {
        const [program] = server.command;
        await t.step({
          name: server.name,
          ignore: program !== DENO[0] && !has(program),
          sanitizeExit: false,
          fn: () => judge(server),
        });
      }
    }));
  },
});

Deno.test("checks - each of them finds a wrong server", () => {
  const found = Object.values(FAULTS).flatMap(([breaks]) => words(breaks));
  assert.deepEqual(checks.filter(({ name }) => !found.includes(name)), []);
});

/** Asks a server that answers two clients, and makes others wait for ever. */
async function askStalling(check: Check): Promise<Report | undefined> {
  const over = Promise.withResolvers<void>();
  let count = 0;
  await using server = serveHere(async (connection) => {
    if (++count <= 2) return await serveRight(connection);
    // Every other client gets a byte now and then, the rest nothing.
    const drips = count % 2 === 0;
    while (drips) {
      await writeText(connection, "A");
      await pause(100);
    }
    await over.promise;
  });
  using _ = { [Symbol.dispose]: over.resolve };
  // With the timeout alone, a wait would take ten minutes.
  const options = { checks: [check], timeout: 600, budget: 6 };
  return await within(60, conform(server.address, options));
}

Deno.test("checks - their budget ends every wait, whatever the server does", {
  timeout: 90_000,
}, async () => {
  const reports = await Promise.all(checks.map(askStalling));
  const longer = checks.filter((_, place) => reports[place] === undefined);
  assert.deepEqual(
    longer,
    [],
    "checks that wait longer than the budget of 6 s",
  );
});
