// One VM: the state word and its reason, where it is, the live charts, disks, facts, events, console.
import { h, VNode } from "../vdom";
import { Pair, Status } from "../api";
import { ActionBar, Actions } from "../actions";
import { Chart, ChartSpec, column } from "../charts";
import { Badge, Icon, MoodIcon } from "../icons";
import { leaderStatus, siteWord, Topology } from "../topology";
import { EventList } from "./events";
import { nowUnixMs, store } from "../store";
import { TaskList } from "../tasks";
import * as format from "../format";

const kCharts: ChartSpec[] = [
  { id: "lag", title: "Execution lag", hint: "How far the backup's execution is behind the primary's",
    lines: [{ of: column("lag_seconds"), label: "lag", tone: "one" }], value: format.seconds, floor: 0.005 },
  { id: "delay", title: "Output delay",
    hint: "How long an output waits for the backup's acknowledgement: median and 99th percentile",
    lines: [{ of: column("output_delay_p50_seconds"), label: "p50", tone: "one" },
            { of: column("output_delay_p99_seconds"), label: "p99", tone: "two" }],
    value: format.seconds, floor: 0.005 },
  { id: "log", title: "Log rate", hint: "What recording makes, and what crosses the link after compression",
    lines: [{ of: column("log_bytes_per_second"), label: "log", tone: "one" },
            { of: column("wire_bytes_per_second"), label: "wire", tone: "two" }],
    value: (value) => format.bytes(value, true), floor: 1000 },
  { id: "compression", title: "Compression", hint: "Bytes of log for each byte on the link",
    lines: [{ of: (point) => point.log_bytes_per_second !== null && point.wire_bytes_per_second
                ? point.log_bytes_per_second / point.wire_bytes_per_second : null, label: "ratio", tone: "one" }],
    value: (value) => (value === null ? format.kUnknown : `${format.digits(value)} : 1`), floor: 2 },
  { id: "rtt", title: "Round trip", hint: "Measured on heartbeats, with its jitter",
    lines: [{ of: column("rtt_seconds"), label: "RTT", tone: "one" },
            { of: column("jitter_seconds"), label: "jitter", tone: "two" }],
    value: format.seconds, floor: 0.002 },
  { id: "loss", title: "Packet loss", hint: "Share of heartbeats that did not arrive",
    lines: [{ of: column("loss_ratio"), label: "loss", tone: "one" }], value: format.percent, floor: 0.01 },
  { id: "exits", title: "Guest exits", hint: "Points at which the guest can be recorded, a second",
    lines: [{ of: column("exits_per_second"), label: "exits", tone: "one" }], value: format.rate, floor: 100 },
  { id: "throttle", title: "Throttle", hint: "Share of time that the vCPU is slowed, so that the lag stays in bounds",
    lines: [{ of: column("throttle_ratio"), label: "throttle", tone: "one" }], value: format.percent, floor: 0.1 },
];

const kExplain: { [word: string]: string } = {
  protected: "A loss of either site now loses nothing.",
  degraded: "It runs at both sites, with something to repair.",
  unprotected: "A loss of the primary's site now would lose it.",
  solo: "The VM runs at one site, without a backup.",
  asking: "Output is held until the tiebreaker has answered.",
  waiting: "Output is frozen: neither the peer nor the tiebreaker answers.",
  going_live: "The backup finishes its log and takes over.",
  halted: "This copy of the VM stands still and its disk is fenced.",
  joining: "The new backup is being filled.",
  pairing: "The new backup is being filled.",
  starting: "It is looking for its peer and its record.",
  switching: "The roles are being exchanged.",
  stopped: "The VM was shut down on purpose.",
  failed: "It needs an operator.",
  unknown: "Its replicator does not answer.",
};

function Banner(props: { pair: Pair }): VNode {
  const { pair } = props;
  return (
    <section class={`banner mood-${pair.mood}`} aria-label="State">
      <MoodIcon mood={pair.mood} class="banner-icon" />
      <div class="banner-text">
        <h1>{siteWord(pair.word)}</h1>
        <p>{format.sentence(pair.reason)}</p>
        {kExplain[pair.word] ? <p class="muted explain">{kExplain[pair.word]}</p> : null}
      </div>
      <dl class="banner-facts">
        <div><dt>VM</dt><dd>{pair.name}</dd></div>
        <div><dt>For</dt><dd>{format.since(pair.since_unix_ms, nowUnixMs())}</dd></div>
        <div><dt>Uptime</dt><dd>{format.duration(pair.uptime_seconds)}</dd></div>
        <div><dt>Epoch</dt><dd>{pair.epoch ?? format.kUnknown}</dd></div>
      </dl>
    </section>
  );
}

function Alerts(props: { pair: Pair }): VNode | null {
  const alerts = props.pair.alerts ?? [];
  if (alerts.length === 0) return null;
  return (
    <ul class="alerts" aria-label="Alerts">
      {alerts.map((alert) => (
        <li class={`alert severity-${alert.severity}`}>
          <Icon name={alert.severity} label={alert.severity} />
          <span>{alert.text}</span>
          {alert.since_unix_ms > 0
            ? <span class="muted">for {format.since(alert.since_unix_ms, nowUnixMs())}</span> : null}
        </li>
      ))}
    </ul>
  );
}

const kDiskMood: { [state: string]: "good" | "busy" | "bad" | "warning" | "unknown" } = {
  up_to_date: "good", syncing: "busy", inconsistent: "bad", failed: "bad", fenced: "warning", detached: "unknown",
};

function Disks(props: { pair: Pair }): VNode {
  const rows = props.pair.views.flatMap((view) =>
    view.reachable && view.status ? view.status.disks.map((disk) => ({ site: view.status!.site, disk })) : []);
  return (
    <section class="card">
      <h2><Icon name="disk" />Disks</h2>
      {rows.length === 0 ? <p class="muted quiet">No disk is reported.</p> : (
        <div class="scroll">
          <table>
            <thead>
              <tr><th>Disk</th><th>Site</th><th>State</th><th class="num">Size</th><th class="num">Epoch</th>
                  <th class="num">Written</th></tr>
            </thead>
            <tbody>
              {rows.map(({ site, disk }) => (
                <tr key={`${site}/${disk.id}`}>
                  <td title={disk.path}>{disk.id}</td>
                  <td>{site}</td>
                  <td>
                    <Badge mood={kDiskMood[disk.state] ?? "unknown"} text={format.title(disk.state)} />
                    {disk.synced_ratio !== null && disk.state === "syncing"
                      ? <progress max="1" value={disk.synced_ratio}>{format.percent(disk.synced_ratio)}</progress> : null}
                    {disk.text ? <div class="muted">{disk.text}</div> : null}
                  </td>
                  <td class="num">{format.binaryBytes(disk.size_bytes)}</td>
                  <td class="num">{disk.epoch}</td>
                  <td class="num">{format.bytes(disk.written_bytes)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Facts(props: { status: Status }): VNode {
  const { status } = props;
  const fact = (name: string, value: string, note = "") => (
    <div><dt>{name}</dt><dd>{value}{note ? <span class="muted"> {note}</span> : null}</dd></div>
  );
  const mismatches = status.digest.mismatches;
  const taken = status.checkpoint;
  // A backup in checkpoint mode does not execute: it has nothing to compare or to heal.
  const keepingUp = status.vm.mode === "checkpoint" ? [
    fact("Checkpoints", format.count(taken?.taken ?? null), taken ? `${format.count(taken.acknowledged)} acknowledged` : ""),
    fact("Interval", format.seconds(taken?.interval_seconds ?? null), taken ? `set by: ${taken.bound}` : ""),
    fact("Last checkpoint", format.bytes(taken?.last_bytes ?? null), taken ? `${format.count(taken.last_pages)} pages` : ""),
    fact("The guest stood", format.seconds(taken?.last_pause_seconds ?? null)),
  ] : [
    fact("Digests", format.count(status.digest.checked), mismatches ? `${mismatches} differed` : "all equal"),
    fact("Healed pages", format.count(status.digest.healed_pages)),
  ];
  return (
    <section class="card">
      <h2><Icon name="pulse" />Execution</h2>
      <dl class="facts">
        {fact("Log index", format.count(status.execution.log_index))}
        {fact("Acknowledged", format.count(status.execution.acknowledged))}
        {fact("Lag", format.count(status.execution_lag.entries), `entries, ${format.bytes(status.execution_lag.bytes)}`)}
        {fact("Outputs held", format.count(status.output.held), `of ${format.count(status.output.released)} released`)}
        {keepingUp}
        {fact("Throttle", format.percent(status.execution.throttle_ratio))}
        {fact("Reconnects", format.count(status.link.reconnects))}
        {fact("Mode", format.title(status.vm.mode), `${status.vm.vcpu_count} vCPU, ${format.binaryBytes(status.vm.memory_bytes)}`)}
        {fact("Software", status.versions.software || format.kUnknown)}
      </dl>
    </section>
  );
}

function Console(props: { text: string }): VNode {
  const stick = (element: HTMLElement) => {
    element.scrollTop = element.scrollHeight;
  };
  return (
    <section class="card">
      <h2><Icon name="terminal" />Console</h2>
      <pre class="console" tabindex="0" aria-label="Console, last lines" onmount={stick} onupdate={stick}>
        {props.text || "The guest has printed nothing yet."}
      </pre>
    </section>
  );
}

function WindowChoice(props: { draw: () => void }): VNode {
  const choice = (value: number, text: string) => (
    <button class={`segment ${store.windowSeconds === value ? "on" : ""}`}
            aria-pressed={String(store.windowSeconds === value)}
            onclick={() => { store.windowSeconds = value; props.draw(); }}>{text}</button>
  );
  return (
    <div class="segments" role="group" aria-label="Time shown">
      {choice(60, "1 min")}{choice(300, "5 min")}{choice(900, "15 min")}
    </div>
  );
}

export function VmPage(props: { name: string; actions: Actions; draw: () => void }): VNode {
  const pair = store.pair;
  if (store.pairMissing) {
    return (
      <main id="main" class="page" tabindex="-1">
        <section class="empty card">
          <Icon name="unknown" />
          <h1>No VM named {props.name}</h1>
          <p>No replicator on this host reports it.</p>
        </section>
      </main>
    );
  }
  if (!pair || pair.name !== props.name) {
    return <main id="main" class="page" tabindex="-1"><p class="loading">Asking the replicator…</p></main>;
  }
  const status = leaderStatus(pair);
  const tasks = store.tasks.filter((task) => task.pair === pair.name);
  const view = { series: store.series, windowSeconds: store.windowSeconds, theme: document.documentElement.dataset.theme ?? "" };
  return (
    <main id="main" class="page" tabindex="-1">
      <Banner pair={pair} />
      <Alerts pair={pair} />
      <Topology pair={pair} />
      <ActionBar pair={pair} actions={props.actions} draw={props.draw} />
      <div class="section-head">
        <h2>Live</h2>
        <WindowChoice draw={props.draw} />
      </div>
      <section class="charts">
        {kCharts.map((spec) => <Chart spec={spec} view={view} />)}
      </section>
      <div class="columns">
        <div class="column">
          <Disks pair={pair} />
          {status ? <Facts status={status} /> : null}
          {status ? <Console text={status.vm.console_tail} /> : null}
        </div>
        <div class="column">
          {tasks.length > 0 ? (
            <section class="card">
              <h2><Icon name="swap" />Tasks</h2>
              <TaskList tasks={tasks.slice(0, 5)} showPair={false} empty="" />
            </section>
          ) : null}
          <section class="card">
            <h2><Icon name="info" />Events</h2>
            <EventList events={store.events.filter((event) => event.pair === pair.name).slice(0, 15)} showPair={false} />
          </section>
        </div>
      </div>
    </main>
  );
}
