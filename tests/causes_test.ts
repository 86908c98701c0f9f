// SPDX-License-Identifier: 0BSD

// The table of causes: what was sent, what came, and which cause is told of it.

import assert from "node:assert/strict";
import { type Case, causes, usualCause } from "../lib/checker/causes.ts";

/** More than is sent and comes; a closed connection, and not the first one. */
type More = Partial<Case> & { told?: Line };
type Line = [cause: string, sent: string | string[], came: string, more?: More];

const OPEN = { ending: undefined };
const LONG = "a long line ".repeat(300);
const OWN = { ifShort: "the check's own cause" };
const TLS_ALERT = "\x15\x03\x03\0\x02\x02\x46";

const FIRST_LINE_ALONE: Line = ["one reader for each", "one\ntwo\n", "ONE\n"];

const TABLE: Line[] = [
  ["with the next input", "one\ntwo\n", "ONE\nTWO\n", { late: "ONE\n" }],
  ["until a buffer is full", "one\ntwo\n", "ONE\nTWO\n", { late: "ONE\nT" }],
  ["without end", "one\n", "ONE\nONE\n", { ending: "endless" }],
  ["text's length", "one\n", "\0\x03ONE"],
  ["it speaks TLS", "one\n", TLS_ALERT],
  ["Java's objects", "one\n", "\uFFFD\uFFFD\0\x05"],
  ["it speaks HTTP", "one\n", "HTTP/1.1 400 Bad Request\r\n"],
  ["share a buffer", "client 1 is slow\n", "CLIENT 2 IS SLOW\n"],
  ["not depend on", "one\n", "You said 3\n", { before: "You said 5\n" }],
  ["another encoding", "one\n", "\uFFFD\uFFFDO\0N\0E\0\n\0"], // UTF-16
  ["another encoding", "one\n", "O\0\0\0N\0\0\0E\0\0\0\n\0\0\0"],
  ["buffer is sent whole", "one\n", "ONE\n\0\0\0\0"],
  ["no small letters", "one two\n", "ONE\0TWO\n"],
  ["b'...'", "one\n", "b'ONE\\n'"],
  ["byte order mark", ["one\n", "two\n"], "\uFEFFONE\n\uFEFFTWO\n"],
  ["byte order mark", "\uFEFFone\n", "ONE\n"],
  ["accents are taken off", "perché\n", "PERCHE\n"],

  ["belongs in a loop", "one\n", "", { served: 1, ...OPEN }],
  ["the check's own", "one\n", "", OWN],
  ["the check's own", "client 1 is slow\n", "CLIENT 1 ", { ...OWN, ...OPEN }],
  ["strlen()", "one\0two\n", "ONE\n"],
  ["an empty line is a line", "one\n\ntwo\n", "ONE\n"],
  ["an empty line is a line", "one\n\ntwo\n", "ONE\r\n"],
  ["line ends or blanks", "\n", "", OPEN],
  ["last line is forgotten", "one\ntwo", "ONE\n"],
  ["was cut between", ["a\nè", "è\n"], "A\n"],
  ["decoder's error", "è\n", ""],
  ["of any length", `${LONG}\n`, "A LONG LINE "],
  FIRST_LINE_ALONE,
  ["stopped reading", `${LONG}\n`, LONG.toUpperCase().slice(0, 1024), OPEN],
  ["look at its own output", "one\n", "", OPEN],
  ["says nothing, and closes", "one\n", "", { served: 0 }],
  ["before all was sent back", "one\ntwo\nfour\n", "ONE\nTWO\n"],

  ["as it was sent", "one\n", "one\n"],
  ["was cut between", ["a\nè", "è\n"], "A\n?È\n"],
  ["was cut between", `${"aè".repeat(600)}\n`, `A?${"AÈ".repeat(599)}\n`],
  ["only A to Z", "one è\n", "ONE è"],
  ["only A to Z", "one è\n", "ONE è\n", { told: ["", "one\n", "ONE\r\n"] }],
  ["a language's own", "i è\n", "İ È\n"],
  ["not all letters", "one two\n", "One Two\n"],
  ["another encoding", "one è\n", "ONE ?\n"],
  ["strlen()", "one\0two\n", "ONETWO\n"],
  ["strlen()", "one\0two\n", "ONE\0two\n"],
  ["of any length", `${LONG}\n`, LONG.toUpperCase().replace("G", "G\n") + "\n"],
  ["blanks are lost", "one two\n", "ONE\nTWO\n"],
  ["line ends or blanks", "one\n", "ONE\r\n"],

  ["a buffer is sent", "one\n", "ONE\nONE\n"],
  ["a buffer is sent", ["one\n", "two\n"], "ONE\nONE\nTWO\n"],
  ["nobody asked for", "one\n", "Welcome!\nONE\n"],
  ["nobody asked for", "one\n", "You said: one\n"],

  ["first part of a line", ["hel", "lo\n"], "LO\n"],
  ["another encoding", "one è\n", "\uFFFD\n"],
  ["one reader for each", ["one\ntw", "o\n"], "ONE\nO\n"],
  ["printf", "100% OF ALL\n", "1000F ALL\n"],
  ["lost, doubled", "the quick brown fox\n", "THE QUICK BRO FOX\n"],
  ["one reader for each", "the quick brown fox\n", "THE QUICK BRO FOX\n", {
    told: FIRST_LINE_ALONE,
  }],
  ["nothing of what was sent", "one\n", "xyz\n"],
];

function causeOf([, sent, came, { told, ...more } = {}]: Line): string {
  const steps = [sent].flat();
  const wanted = steps.join("").toUpperCase();
  const it = { steps, came, wanted, ending: "closed", served: 2, ...more };
  const before = told ? [causeOf(told)] : [];
  return usualCause(it as Case, new Set(before));
}

Deno.test("causes - of a wrong reply, the likeliest cause is told", () => {
  for (const line of TABLE) {
    const cause = causeOf(line);
    assert.ok(cause.includes(line[0]), `${Deno.inspect(line)}: ${cause}`);
  }
});

Deno.test("causes - a server that has ended is told so, whatever came before", () => {
  for (const [, sent, came, more] of TABLE) {
    const cause = causeOf(["", sent, came, { ...more, hasEnded: true }]);
    assert.match(cause, /^the server has ended: its own output says why/);
  }
});

Deno.test("causes - without a row of the table, another cause would be told", () => {
  const all = TABLE.map(causeOf);
  for (const [extent, rows] of Object.entries(causes)) {
    for (let at = 0; at < rows.length; at++) {
      const [row] = rows.splice(at, 1);
      const same = TABLE.every((line, at) => causeOf(line) === all[at]);
      rows.splice(at, 0, row);
      assert.ok(!same, `no line above holds this row of ${extent}: ${row}`);
    }
  }
});
