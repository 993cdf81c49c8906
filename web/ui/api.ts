// The REST API's documents as types, and the ways to them: fetch for what is asked once, one
// EventSource for what lives. A hidden tab gives its stream back (browsers allow six per site).

export type Mood = "good" | "busy" | "warning" | "bad" | "unknown";
export type Severity = "info" | "warning" | "error";

export interface Alert { code: string; severity: Severity; text: string; since_unix_ms: number; }
export interface Site {
  site: string; word: string; reason: string; mood: Mood; seen: boolean; holds_vm: boolean;
}
export interface Summary {
  name: string; word: string; reason: string; mood: Mood; since_unix_ms: number; leader: string;
  sites: Site[];
  epoch?: number; vcpu?: string; uptime_seconds?: number | null;
  lag_seconds?: number | null; output_delay_p50_seconds?: number | null;
  output_delay_p99_seconds?: number | null; log_bytes_per_second?: number | null;
  rtt_seconds?: number | null; link_up?: boolean; tiebreaker_reachable?: boolean;
  tiebreaker_text?: string; alerts?: Alert[]; rpo_seconds?: number | null;
}
export interface Overview { items: Summary[]; time_unix_ms: number; }
export interface Member { site: string; incarnation: string; }
export interface Disk {
  id: string; path: string; size_bytes: number; epoch: number; state: string;
  synced_ratio: number | null; dirty_bytes: number | null; read_bytes: number; written_bytes: number;
  text: string;
}
export interface Operation {
  id: number; method: string; state: string; progress_ratio: number | null; text: string; actor: string;
  started_unix_ms: number; ended_unix_ms: number | null;
}
export interface Status {
  pair: string; site: string; peer_site: string; state: string; reason: string;
  state_since_unix_ms: number; role: string; protection: string; protection_reason: string;
  epoch: number; incarnation: string; members: Member[];
  execution_lag: { seconds: number | null; entries: number | null; bytes: number | null };
  log_rate: {
    bytes_per_second: number | null; wire_bytes_per_second: number | null; entries_per_second: number | null;
  };
  link: {
    session_up: boolean; heartbeat_up: boolean; peer_address: string; rtt_seconds: number | null;
    jitter_seconds: number | null; loss_ratio: number | null; sent_bytes: number; received_bytes: number;
    reconnects: number; last_heard_seconds: number | null;
  };
  output: {
    held: number; released: number; delay_p50_seconds: number | null; delay_p99_seconds: number | null;
  };
  execution: {
    exits: number; exits_per_second: number | null; throttle_ratio: number | null; log_index: number;
    acknowledged: number;
  };
  digest: { checked: number; mismatches: number; healed_pages: number; last_ok_exit: number | null };
  checkpoint: {
    taken: number; acknowledged: number; interval_seconds: number | null; bound: string; last_bytes: number;
    last_pages: number; last_pause_seconds: number | null;
  } | null;
  auto: {
    by_deltas: boolean; reason: string; since_unix_ms: number | null; lockstep_after_seconds: number | null;
    deltas: number; last_bytes: number; last_pages: number; last_pause_seconds: number | null;
  } | null;
  disks: Disk[];
  tiebreaker: {
    reachable: boolean; address: string; text: string; last_answer_seconds: number | null;
    rtt_seconds: number | null;
    record: { mode: string; epoch: number; holder: string; members: Member[] } | null;
  };
  vm: {
    name: string; vcpu: string; mode: string; uptime_seconds: number | null; memory_bytes: number;
    vcpu_count: number; console_tail: string;
  };
  operations: Operation[];
  alerts: Alert[];
  versions: { software: string; api: number; protocol: number; peer_software: string };
  time_unix_ms: number;
}
export interface View {
  id: string; socket: string; reachable: boolean; error: string; seen_unix_ms: number; status: Status | null;
}
export interface Pair extends Summary { views: View[]; time_unix_ms: number; }
export interface PairEvent {
  id: number; pair: string; site: string; sequence: number; time_unix_ms: number; code: string;
  severity: Severity; text: string;
}
export interface History { step_ms: number; columns: string[]; rows: (number | null)[][]; }
export interface Problem { type: string; title: string; status: number; detail: string; }

export interface Session {
  authenticated: boolean; user: string; via: string; role: string; csrf: string; may: string[];
  login_possible?: boolean; banner?: string;
}
export interface Task {
  id: string; number: number; pair: string; site: string; action: string; actor: string; state: string;
  progress_ratio: number | null; text: string; created_unix_ms: number; ended_unix_ms: number | null;
}
export interface Finding { severity: Severity; text: string; }
export interface ActionReply {
  allowed: boolean; findings: Finding[]; consequence: string; action: string; pair: string; site: string;
  confirm: string | null; task: Task | null;
}
export interface User {
  name: string; role: string; disabled: boolean; created_unix_ms: number; changed_unix_ms: number;
}
export interface Token {
  id: number; name: string; role: string; created_by: string; created_unix_ms: number;
  expires_unix_ms: number | null; used_unix_ms: number | null;
}
export interface AuditEntry {
  id: number; time_unix_ms: number; actor: string; via: string; remote: string; action: string; target: string;
  outcome: string; detail: string;
}
export interface Settings {
  session_idle_minutes: number; session_hours: number; login_banner: string; loopback_read: boolean;
  https: { tls: boolean; subject?: string; issuer?: string; fingerprint?: string; not_after_unix_ms?: number;
           self_signed?: boolean };
}
export interface Page<T> { items: T[]; next: string | number | null; }

export class ApiError extends Error {
  constructor(readonly problem: Problem) {
    super(problem.detail || problem.title);
  }
}

// The session's token, for what changes something; and whom to tell that there is no session any more.
let csrf = "";
let onLoggedOut: () => void = () => {};
export function setSession(token: string, loggedOut: () => void): void {
  csrf = token;
  onLoggedOut = loggedOut;
}

async function problemOf(response: Response): Promise<Problem> {
  try {
    return await response.json();
  } catch { /* no problem document: the status line has to do */ }
  return { type: "about:blank", title: response.statusText, status: response.status, detail: "" };
}

export async function send<T>(method: string, path: string, body?: unknown,
                              headers: { [name: string]: string } = {}): Promise<T> {
  const sent: { [name: string]: string } = { Accept: "application/json", ...headers };
  if (method !== "GET") sent["X-CSRF-Token"] = csrf;
  if (body !== undefined) sent["Content-Type"] = "application/json";
  let response: Response;
  try {
    response = await fetch(path, { method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch {
    throw new ApiError({ type: "about:blank", title: "No connection", status: 0,
                         detail: "The server of this page does not answer." });
  }
  if (!response.ok) {
    const problem = await problemOf(response);
    if (problem.type === "/problems/not-logged-in") onLoggedOut();
    throw new ApiError(problem);
  }
  return response.status === 204 ? (undefined as unknown as T) : await response.json();
}

export function get<T>(path: string): Promise<T> {
  return send<T>("GET", path);
}

export interface LiveHandlers {
  overview(data: Overview): void;
  pair(data: Pair | null): void;
  event(data: PairEvent): void;
  task(data: Task): void;
  drill(data: any): void;
  connection(up: boolean): void;
}

export class Live {
  private source: EventSource | null = null;
  private pair = "";
  private retry = 0;
  private wanted = false;

  constructor(private readonly handlers: LiveHandlers) {
    document.addEventListener("visibilitychange", () => this.reopen());
  }

  follow(pair: string): void {
    if (this.source && this.pair === pair) return;
    this.pair = pair;
    this.wanted = true;
    this.reopen();
  }

  stop(): void {
    this.wanted = false;
    this.reopen();
  }

  private reopen(): void {
    this.source?.close();
    this.source = null;
    window.clearTimeout(this.retry);
    if (!this.wanted || document.visibilityState === "hidden") return;
    const query = this.pair ? `?pair=${encodeURIComponent(this.pair)}` : "";
    const source = new EventSource(`/api/v1/live${query}`);
    this.source = source;
    const on = (name: string, handler: (data: any) => void) =>
      source.addEventListener(name, (event) => handler(JSON.parse((event as MessageEvent).data)));
    on("overview", (data) => this.handlers.overview(data));
    on("pair", (data) => this.handlers.pair(data));
    on("event", (data) => this.handlers.event(data));
    on("task", (data) => this.handlers.task(data));
    on("drill", (data) => this.handlers.drill(data));
    source.onopen = () => this.handlers.connection(true);
    source.onerror = () => {
      this.handlers.connection(false);
      // The browser tries again by itself unless the server refused outright.
      if (source.readyState === EventSource.CLOSED) {
        this.retry = window.setTimeout(() => this.reopen(), 3000);
      }
    };
  }
}

// One idempotency key for one intention: what is sent again with it is done once.
export function newKey(): string {
  const bytes = new Uint8Array(16);
  crypto.getRandomValues(bytes);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Refused: a corrected request is another intention. Unanswered: the same, so that it is done once.
export function keyAfter(error: unknown, key: string): string {
  return error instanceof ApiError && error.problem.status !== 0 ? newKey() : key;
}

export function messageOf(error: unknown): string {
  return error instanceof ApiError ? error.message : String(error);
}
