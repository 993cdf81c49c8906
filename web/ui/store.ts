// All that the page knows, in one place; the views are functions of it.
import {
  ActionReply, AuditEntry, Overview, Page, Pair, PairEvent, Session, Settings, Task, Token, User,
} from "./api";
import { Series } from "./charts";
import { Drill, DrillState, kNoDrills } from "./pages/drills";
import { Hook } from "./pages/hooks";
import { Link } from "./pages/links";
import { kNoPairing, PairingState } from "./pages/pairing";
import { TiebreakerView } from "./pages/tiebreaker";

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
  session: Session | null;  // null = not asked yet
  login: { busy: boolean; error: string };
  menuOpen: boolean;
  moreOpen: boolean;        // the further actions of a VM
  dialog: ActionDialog | null;
  passwordDialog: { busy: boolean; error: string; done: boolean } | null;
  tasks: Task[];            // newest first
  drills: Drill[];          // newest first
  drilling: DrillState;
  hooks: Hook[];
  hookError: string;
  admin: Admin;
  links: Page<Link> | null;
  tiebreakers: Page<TiebreakerView> | null;
  pairing: PairingState;
  wantsLogin: boolean;  // somebody who may only look wants to log in
}

export interface ActionDialog {
  action: string;
  pair: string;
  stage: "checking" | "ready" | "sending";
  reply: ActionReply | null;
  error: string;
  key: string;      // one idempotency key for one intention
  typed: string;
  note: string;
  sworn: boolean;   // force: the other site is down
  accepted: boolean;  // force: that acknowledged writes are lost
  fault: string;
  seconds: string;
}

// The settings page's data, asked for when it is opened.
export interface Admin {
  settings: Settings | null;
  users: User[] | null;
  tokens: Token[] | null;
  audit: AuditEntry[] | null;
  auditNext: number | null;
  newToken: string;
  error: string;
  saved: string;
}

export const kNoAdmin: Admin = {
  settings: null, users: null, tokens: null, audit: null, auditNext: null, newToken: "", error: "", saved: "",
};

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
  session: null,
  login: { busy: false, error: "" },
  menuOpen: false,
  moreOpen: false,
  dialog: null,
  passwordDialog: null,
  tasks: [],
  drills: [],
  drilling: { ...kNoDrills },
  hooks: [],
  hookError: "",
  admin: { ...kNoAdmin },
  links: null,
  tiebreakers: null,
  pairing: { ...kNoPairing },
  wantsLogin: false,
};

export function may(access: string): boolean {
  return store.session?.may.includes(access) ?? false;
}

export function pairInPath(path: string): string {
  const match = /^\/vms\/([^/]+)$/.exec(path);
  return match ? decodeURIComponent(match[1]) : "";
}

export function nowUnixMs(): number {
  return store.overview?.time_unix_ms ?? Date.now();
}
