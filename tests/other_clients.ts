// SPDX-License-Identifier: 0BSD

/** Clients of others, as they are called to do what `client.ts` does. */

import { PEERS } from "./machine.ts";

/**
 * Each sends its whole input, half-closes, and prints the reply to the end: what has
 * to be installed, and the command.
 */
export const OTHER_CLIENTS: Record<
  string,
  (port: number | string) => string[]
> = {
  nc: (port) => [
    "nc",
    ...(Deno.build.os === "darwin" ? [] : ["-N"]), // Apple's does so by itself
    ...["127.0.0.1", `${port}`],
  ],
  ncat: (port) => ["ncat", "127.0.0.1", `${port}`],
  // -t is how long it waits for replies after the end of its input: seconds.
  socat: (port) => ["socat", "-t", "60", "-", `TCP:127.0.0.1:${port}`],
  python3: (port) => ["python3", `${PEERS}/client.py`, `${port}`],
  java: (port) => ["java", `${PEERS}/Client.java`, `${port}`],
};
