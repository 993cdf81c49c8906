// All that the page knows, in one place; the views are functions of it.
import { Overview, Pair, PairEvent } from "./api";
import { Series } from "./charts";

export type Theme = "auto" | "light" | "dark";

export interface Store {
  path: string;
  overview: Overview | null;
  pair: Pair | null;
  pairMissing: boolean;
  series: Series;
  seriesOf: string;  // pair and leading view that the series belongs to
  events: PairEvent[];  // newest first
  eventsComplete: boolean;
  connected: boolean;
  everConnected: boolean;
  failure: string;
  windowSeconds: number;
  theme: Theme;
  announced: string;  // for screen readers
  severity: string;   // filter of the events page
}

export const store: Store = {
  path: location.pathname,
  overview: null,
  pair: null,
  pairMissing: false,
  series: new Series(),
  seriesOf: "",
  events: [],
  eventsComplete: false,
  connected: false,
  everConnected: false,
  failure: "",
  windowSeconds: 300,
  theme: "auto",
  announced: "",
  severity: "info",
};

export function pairInPath(path: string): string {
  const match = /^\/vms\/([^/]+)$/.exec(path);
  return match ? decodeURIComponent(match[1]) : "";
}

export function nowUnixMs(): number {
  return store.overview?.time_unix_ms ?? Date.now();
}
