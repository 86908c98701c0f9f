// SPDX-License-Identifier: 0BSD

/**
 * What a person at a terminal gets to read when something goes wrong.
 *
 * @module
 */

import {
  type Address,
  format,
  type NoConnection,
  NOTHING_LISTENS,
} from "./tcp.ts";

/** An error's message in one line. */
export function messageOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replaceAll("\n", " ");
}

/** Says in one line what went wrong, and ends the process. */
export function fail(program: string, message: string, code = 1): never {
  console.error(`${program}: ${message}`);
  Deno.exit(code);
}

/** Says for a person at the keyboard that there is no service. */
export function noService(address: Address, error: NoConnection): string {
  const message = messageOf(error);
  const list = Deno.build.os === "linux" ? "ss -tuln" : "netstat -an";
  const hint = message === NOTHING_LISTENS
    ? "; start the server first, and give its --port, and its --hostname if " +
      `it is another one (::1, 127.0.0.2): ${list} shows what listens, and ` +
      "a UDP server is no TCP server"
    : "";
  return `no service at ${format(address)}: ${message}${hint}`;
}
