// SPDX-License-Identifier: 0BSD

// Runs lib's checks against servers that are right and servers that are wrong
// in one way, and holds them to finding just that.

import assert from "node:assert/strict";
import { setTimeout as pause } from "node:timers/promises";
import { checks, conform, type Report } from "../lib/conformance.ts";
import { listening, Script } from "../lib/parts/process.ts";
import { within } from "../lib/parts/waits.ts";
import { has, PEERS, testSteps } from "./machine.ts";
import { serveHere, serveRight, writeText } from "./sockets.ts";

const DENO = [Deno.execPath(), "run", "--allow-net"];

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
  /** It breaks them by chance, and is asked them alone, 30 times at most. @default false */
  byChance?: boolean;
  /** It is a textbook's server, which never meant to keep them. @default false */
  oneReply?: boolean;
}

/** All checks but some. */
function without(some: string): string {
  const names = checks.map(({ name }) => name);
  return names.filter((name) => !some.split(" ").includes(name)).join(" ");
}

// -------------------------------------------------------------- ordinary servers

const ORDINARY: Row[] = [
  {
    name: "a textbook's server in Java",
    command: ["java", `${PEERS}/Textbook.java`],
    // An empty connection gives it null for a line, and it dies of that.
    breaks: "several-lines pieces no-line-end crlf conversation order " +
      "two-clients slow-reader letters special cuts first-character empty",
    cause: /another encoding/, // of what writeBytes() makes of accents
    oneReply: true,
  },
  ...[["java", "Threads.java"], ["python3", "asyncio.py"], ["node", "node.mjs"]]
    .map(([program, file]) => ({
      name: `${file}, which is right`,
      command: [program, `${PEERS}/${file}`],
      breaks: "",
    })),
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
    command: ["python3", `${PEERS}/bytes.py`],
    // Megabytes take long.
    asked: without(
      "pause slow-reader never-reads early-reset long-line order cuts",
    ),
    breaks: "letters special",
    cause: /only A to Z/,
  },
  {
    name: "the recipe",
    command: [...DENO, `${PEERS}/recipe.ts`, "0"],
    asked: without("slow-reader early-reset"),
    breaks: "first-character",
    cause: /ignoreBOM/,
  },
  // It loses the end of late replies, and ends with a client that resets early.
  ...["slow-reader", "early-reset"].map((breaks) => ({
    name: `the recipe, asked ${breaks} alone`,
    command: [...DENO, `${PEERS}/recipe.ts`, "0"],
    breaks,
    cause: /before all was sent back|accept\(\) itself fails/,
    byChance: true,
  })),
];

// ----------------------------------------------------------------- wrong servers

/** Checks that compare a reply with what was sent, but for the slow ones. */
const CONTENT =
  "uppercase several-lines pieces conversation untouched long-line order " +
  "half-close two-clients hundred zero-byte no-line-end crlf letters special " +
  "cuts first-character";

/**
 * Faults of `wrong/server.ts`, the checks that have to find each, and words
 * from each cause that is told. It is asked these checks and those that take
 * little time, unless other ones are named.
 */
const FAULTS: Record<
  string,
  [breaks: string, cause?: RegExp, more?: Partial<Row>]
> = {
  "none": [""],
  "echoes": [
    "uppercase several-lines pieces conversation long-line order half-close " +
    "two-clients hundred zero-byte no-line-end crlf letters special " +
    "first-character",
    /as it was sent/,
  ],
  "loses line ends": [CONTENT, /line ends or blanks were changed/],
  "capitalizes": [CONTENT, /not all letters/],
  "sends its buffer whole": [CONTENT, /a buffer is sent whole/],
  "speaks HTTP": [`${CONTENT} empty`, /it speaks HTTP/],
  "answers the same to everybody": [`${CONTENT} empty`, /does not depend/],
  "greets each client": [`${CONTENT} empty`, /nobody asked for \(a greeting/],
  "waits for \\r\\n": ["uppercase", /it waits for \\r\\n/],
  "waits for a length before the text": ["uppercase", /the text's length/],
  "never flushes": ["uppercase", /send and flush all/],
  "sends lines to the others alone": ["uppercase", /not to its sender/],
  "gives no place back": ["several-lines", /give back its place/],
  "answers one line a read": [
    "several-lines crlf cuts",
    /answer all lines of a read/,
  ],
  "fills a buffer before it answers": ["interactive", /a buffer is full/],
  "serves its first client alone": ["several-lines", /belongs in a loop/],
  "ends with its first client": [
    "several-lines",
    /^the server has ended.* belongs in a loop/,
  ],
  "takes strlen() for the count": ["zero-byte", /strlen/],
  "takes an empty line for the end": ["several-lines half-close", /empty line/],
  "a new reader for each line": [
    "several-lines pieces no-line-end crlf order half-close cuts",
    /one reader/,
  ],
  "forgets a last line without line end": ["no-line-end", /is forgotten/],
  "ends its lines with \\r\\n": ["no-line-end crlf", /line ends or blanks/],
  "changes line ends": ["crlf", /line ends or blanks were changed/],
  "closes after the first packet": [
    "pieces long-line conversation order two-clients cuts",
    /one read\(\) for a line/,
    { oneReply: true },
  ],
  "answers once, after a second": ["pieces", undefined, {
    asked: "pieces pause", // the second is waited for as long
    oneReply: true,
  }],
  "answers the first 1,000 characters of a read": [
    "long-line order half-close cuts",
    /lost, doubled/,
  ],
  "pauses and never resumes": ["long-line order", /has stopped reading/, {
    asked: "long-line order",
  }], // each costs two time limits
  "replies at the end only": ["interactive", /only after the end of input/],
  "never sees the end of input": ["order", /without end/, { asked: "order" }],
  "never closes": ["half-close empty", /after fork\(\) in the parent/],
  "one line a connection, and no close": ["half-close", /never closes/, {
    asked: "uppercase interactive half-close",
    oneReply: true,
  }],
  "mixes two clients' buffers": ["two-clients", /share a buffer/],
  "one client at a time": ["two-clients hundred never-reads", /in turn/],
  "ten clients at a time": ["hundred", /pool of threads/],
  "serves whom accept() gave last": ["hundred", /threads share one/, {
    byChance: true,
  }],
  "clients share ten buffers": ["hundred", /share a buffer/, {
    byChance: true,
  }],
  // On a busy machine other checks may take it 2 s.
  "closes after 2 s without a byte": ["pause", /gave up a client that paused/, {
    asked: "pause",
  }],
  "closes while it still writes": [
    "slow-reader",
    /before all was sent back: .*only then close/,
    { byChance: true },
  ],
  "uppercases A to Z alone": ["letters special", /only A to Z/],
  "decodes ASCII alone": ["letters special cuts first-character", /decoder's/],
  "writes Latin-1": ["letters special cuts first-character", /encoding/],
  "uppercases letter by letter": ["special", /letter is turned by itself/],
  "cuts characters": ["cuts", /was cut between two reads/],
  "one client that does not read holds up all": ["never-reads", /holds up all/],
  "dies of bytes that are no text": ["not-text", /decoder's error/],
  "dies of an empty connection": ["empty", /gives null/],
  "dies of a reset": ["reset", /catch errors where a client is served/],
  "dies of a broken pipe": ["reset", /SIGPIPE/],
};

const WRONG = Object.entries(FAULTS).map(
  ([name, [breaks, cause, more]]): Row => ({
    name,
    command: [...DENO, `${import.meta.dirname}/wrong/server.ts`, name],
    asked: `${breaks} ${
      without("hundred pause slow-reader never-reads early-reset")
    }`,
    breaks,
    cause,
    ...more,
  }),
);
// A server that is asked one check alone has not told its fault before.
const ALONE = { "never closes": "empty", "gives no place back": "order" };
for (const [fault, check] of Object.entries(ALONE)) {
  const row = WRONG.find(({ name }) => name === fault)!;
  const name = `${fault}, asked ${check} alone`;
  WRONG.push({ ...row, name, asked: check, breaks: check });
}

// ------------------------------------------------------------------- the tests

/** Throws unless the checks say of a server just what is to be said. */
async function judge(row: Row): Promise<void> {
  const { command, breaks, cause, byChance, oneReply = false } = row;
  const asked = (byChance ? breaks : row.asked)?.split(" ");
  let report: Report;
  let found = "";
  for (let times = byChance ? 30 : 1; times > 0 && found === ""; times--) {
    await using running = await listening(Script.command(command));
    report = await conform(running.address, {
      checks: checks.filter(({ name }) => asked?.includes(name) ?? true),
      timeout: 2.5,
      budget: 300, // many servers share the machine
    });
    // What comes after a server's end is not asked.
    found = report.results
      .filter(({ outcome }) => outcome !== "kept" && outcome !== "not asked")
      .map(({ name }) => name).toSorted().join(" ");
  }
  assert.equal(found, breaks.split(" ").toSorted().join(" "));
  assert.equal(report!.oneReply, oneReply);
  for (const { outcome, sent, came, usualCause } of report!.results) {
    if (outcome !== "broken") continue;
    assert(sent && came);
    assert.match(usualCause!, cause!);
  }
}

testSteps(
  "checks - a right server in any language keeps them all, and a wrong one breaks just those of its fault",
  12,
  [...ORDINARY, ...WRONG].map((row) => ({
    name: row.name,
    ignore: row.command[0] !== DENO[0] && !has(row.command[0]),
    fn: () => judge(row),
  })),
);

Deno.test("checks - each of them finds a wrong server", () => {
  const found = [...ORDINARY, ...WRONG].map(({ breaks }) => breaks).join(" ");
  assert.equal(without(found), "");
});

Deno.test("checks - their budget ends every wait, whatever the server does", {
  timeout: 90_000,
}, async () => {
  await Promise.all(checks.map(async (check) => {
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
    const report = await within(60, conform(server.address, options));
    assert(report, `${check.name} waits longer than the budget of 6 s`);
  }));
});
