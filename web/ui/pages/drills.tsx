// Rehearsals: start one, repeat one every week, follow it, and read how the last ones ended.
import { h, VNode } from "../vdom";
import { ApiError, Finding, get, keyAfter, newKey, Page, send } from "../api";
import { Field } from "../dialog";
import { Icon } from "../icons";
import { may, nowUnixMs, store } from "../store";
import * as format from "../format";

export interface Drill {
  id: string; number: number; pair: string; kind: string; actor: string; scheduled: boolean; step: string;
  created_unix_ms: number; ended_unix_ms: number | null; verdict: string | null;
  rpo_seconds: number | null; rto_seconds: number | null;
}
export interface Schedule {
  plan: { pair: string; kind: string; [name: string]: unknown };
  weekday: string; time: string; enabled: boolean; actor: string; next_unix_ms: number;
}
interface Preflight { allowed: boolean; findings: Finding[]; confirm: string | null; }

export interface DrillState {
  pair: string;  // "": the first
  kind: string;
  check: string;
  fault: string;
  network: string;
  weekly: boolean;
  busy: boolean;
  error: string;
  saved: string;
  asking: { body: { [name: string]: unknown }; typed: string; key: string } | null;
  findings: Finding[];
  schedules: Schedule[];
}
export const kNoDrills: DrillState = {
  pair: "", kind: "isolated", check: "runs", fault: "link_cut", network: "none", weekly: false, busy: false, error: "", saved: "",
  asking: null, findings: [], schedules: [],
};

const kKinds: { [kind: string]: [string, string] } = {
  isolated: ["Isolated copy", "A copy of the VM runs beside its backup, in a network of its own or none. Protection stays on."],
  switchover: ["Switchover and back", "The VM goes to the other site and comes back: a short pause each time, nothing is lost."],
  fault: ["Rehearsed fault", "Something breaks on purpose and comes back by itself. A fault may end in a real failover."],
};
const kFaults: { [fault: string]: string } = {
  link_cut: "The line is cut", link_degrade: "The line is bad", tiebreaker_cut: "The tiebreaker is out of reach",
  kill_primary: "The primary is killed",
};
const kChecks: { [check: string]: string } = {
  runs: "It runs", console: "A line on its console", tcp: "A TCP port answers", command: "A command of web.toml",
};
const kMood: { [verdict: string]: string } = { passed: "good", failed: "bad", stopped: "warning" };
const kWeekdays = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

export function addDrill(drill: Drill): void {
  const at = store.drills.findIndex((known) => known.id === drill.id);
  if (at >= 0) store.drills[at] = drill;
  else store.drills.push(drill);
  store.drills.sort((a, b) => b.number - a.number);
  if (store.drills.length > 200) store.drills.length = 200;
}

// What the overview says of a VM's last drill.
export function lastDrill(pair: string): Drill | undefined {
  return store.drills.find((drill) => drill.pair === pair && drill.verdict !== null);
}

export class DrillActions {
  constructor(readonly draw: () => void) {}

  private async attempt(work: () => Promise<void>): Promise<void> {
    const state = store.drilling;
    Object.assign(state, { busy: true, error: "", saved: "" });
    this.draw();
    try {
      await work();
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      state.error = error.message;
    } finally {
      state.busy = false;
      this.draw();
    }
  }
  async load(): Promise<void> {
    store.drilling.schedules = (await get<Page<Schedule>>("/api/v1/drill-schedules")).items;
  }
  begin(data: FormData): Promise<void> {
    const body = planOf(data);
    return this.attempt(async () => {
      if (store.drilling.weekly) {
        const { check_only: _, ...plan } = body;
        const kept = await send<Schedule>("PUT", "/api/v1/drill-schedules", { ...plan, weekday: data.get("weekday"), time: data.get("time") });
        store.drilling.saved = `Every ${format.title(kept.weekday)} at ${kept.time}, the next time on ${format.dateTime(kept.next_unix_ms)}.`;
        await this.load();
        return;
      }
      const said = await send<Preflight>("POST", "/api/v1/drills", { ...body, check_only: true });
      store.drilling.findings = said.findings;
      if (!said.allowed) return;
      if (said.confirm !== null) store.drilling.asking = { body, typed: "", key: newKey() };
      else await this.start(body, newKey());
    });
  }
  confirmed(): Promise<void> {
    const asking = store.drilling.asking!;
    return this.attempt(async () => {
      try {
        await this.start({ ...asking.body, confirm: asking.typed }, asking.key);
      } catch (error) {
        asking.key = keyAfter(error, asking.key);
        throw error;
      }
      store.drilling.asking = null;
    });
  }
  private async start(body: { [name: string]: unknown }, key: string): Promise<void> {
    addDrill(await send<Drill>("POST", "/api/v1/drills", body, { "Idempotency-Key": key }));
  }
  stop(id: string): Promise<void> {
    return this.attempt(async () => { await send("POST", `/api/v1/drills/${id}/stop`); });
  }
  forget(schedule: Schedule): Promise<void> {
    return this.attempt(async () => {
      await send("DELETE", `/api/v1/drill-schedules/${schedule.plan.pair}/${schedule.plan.kind}`);
      await this.load();
    });
  }
}

function planOf(data: FormData): { [name: string]: unknown } {
  const out: { [name: string]: unknown } = {};
  for (const name of ["pair", "kind", "network", "check", "command", "send", "expect", "address", "fault", "note"]) {
    if (data.get(name)) out[name] = data.get(name);
  }
  // What is typed on a console ends with Enter.
  if (out.send) out.send = `${out.send}\n`;
  for (const name of ["check_seconds", "duration_seconds"]) if (data.get(name)) out[name] = Number(data.get(name));
  return out;
}

function Choice(props: { key?: string; label: string; name: string; value: string; options: [string, string][]; pick: (value: string) => void }): VNode {
  return (
    <Field key={props.key ?? props.name} label={props.label}>
      <select name={props.name} value={props.value} onchange={(event: Event) => props.pick((event.target as HTMLSelectElement).value)}>
        {props.options.map(([value, text]) => <option value={value}>{text}</option>)}
      </select>
    </Field>
  );
}

function Seconds(props: { key?: string; name: string; label: string; initial: string; max: string }): VNode {
  return <Field key={props.key ?? props.name} label={props.label}>
    <input name={props.name} type="number" min="1" max={props.max} initial={props.initial} /></Field>;
}

function IsolatedFields(props: { draw: () => void }): VNode[] {
  const state = store.drilling;
  const check = [<Choice key="check" label="It has passed when" name="check" value={state.check} options={Object.entries(kChecks)}
                         pick={(value) => { state.check = value; props.draw(); }} />];
  if (state.check === "console") {
    check.push(<Field key="send" label="Type on its console"><input name="send" maxlength="1000" autocomplete="off" /></Field>,
               <Field key="expect" label="and this appears"><input name="expect" required maxlength="1000" autocomplete="off" /></Field>);
  }
  if (state.check === "tcp") check.push(<Field key="address" label="Address and port"><input name="address" required placeholder="10.0.0.5:443" /></Field>);
  if (state.check === "command") check.push(<Field key="command" label="Its name in web.toml"><input name="command" required maxlength="31" autocapitalize="none" /></Field>);
  return [
    <Choice key="network" label="Network of the copy" name="network" value={state.network}
            options={[["none", "None: what it sends is dropped"], ["isolated", "Isolated: [drill] taps of pair.toml"]]}
            pick={(value) => { state.network = value; props.draw(); }} />,
    ...check,
    <Seconds key="check_seconds" name="check_seconds" label="Within, seconds" initial="60" max="3600" />,
    <Seconds key="duration_seconds" name="duration_seconds" label="Ends after, seconds" initial="600" max="86400" />,
  ];
}

function Form(props: { actions: DrillActions }): VNode {
  const state = store.drilling;
  const { actions } = props;
  const pairs = store.overview?.items ?? [];
  // Kept here, not in the field: the form is made anew when another kind is chosen.
  const chosen = pairs.find((pair) => pair.name === state.pair) ?? pairs[0];
  const draw = () => actions.draw();
  const pick = (choice: { pair?: string; kind?: string }) => {
    Object.assign(state, choice, { findings: [], asking: null });
    draw();
  };
  return (
    <form class="fields roomy" key={`form ${state.kind}`} onsubmit={(event: Event) => {
      event.preventDefault();
      actions.begin(new FormData(event.target as HTMLFormElement));
    }}>
      <Choice label="VM" name="pair" value={chosen?.name ?? ""} options={pairs.map((pair) => [pair.name, pair.name])}
              pick={(pair) => pick({ pair })} />
      <Choice label="What" name="kind" value={state.kind} options={Object.entries(kKinds).map(([kind, [text]]) => [kind, text])}
              pick={(kind) => pick({ kind })} />
      <p class="whole muted">{kKinds[state.kind][1]}</p>
      {state.kind === "isolated" ? IsolatedFields({ draw }) : null}
      {state.kind === "fault" ? [
        <Choice key="fault" label="Fault" name="fault" value={state.fault} options={Object.entries(kFaults)}
                pick={(value) => { state.fault = value; draw(); }} />,
        state.fault === "kill_primary" ? null
          : <Seconds key="fault_seconds" name="duration_seconds" label="It ends after, seconds" initial="10" max="300" />,
      ] : null}
      <Field label="Note"><input name="note" maxlength="300" /></Field>
      <label class="field check"><input type="checkbox" checked={state.weekly}
             onchange={(event: Event) => { state.weekly = (event.target as HTMLInputElement).checked; draw(); }} /><span>Every week</span></label>
      {state.weekly ? [
        <Field key="weekday" label="On"><select name="weekday">{kWeekdays.map((day) => <option value={day}>{format.title(day)}</option>)}</select></Field>,
        <Field key="time" label="at"><input name="time" type="time" required initial="03:00" /></Field>,
      ] : null}
      <button class="button primary" disabled={state.busy || pairs.length === 0}>
        {state.weekly ? "Keep the schedule" : "Start the drill"}</button>
    </form>
  );
}

function Confirm(props: { actions: DrillActions }): VNode {
  const asking = store.drilling.asking!;
  const pair = String(asking.body.pair);
  return (
    <form class="fields inline-form" onsubmit={(event: Event) => { event.preventDefault(); props.actions.confirmed(); }}>
      <p class="whole">{asking.body.kind === "fault" ? `${kFaults[String(asking.body.fault)]}: ${kKinds.fault[1]}` : kKinds.switchover[1]}</p>
      <Field label={`Type ${pair} to confirm`}>
        <input name="confirm" value={asking.typed} autocomplete="off" autocapitalize="none"
               oninput={(event: Event) => { asking.typed = (event.target as HTMLInputElement).value; props.actions.draw(); }} /></Field>
      <button type="button" class="button" onclick={() => { store.drilling.asking = null; props.actions.draw(); }}>Cancel</button>
      <button class="button danger" disabled={asking.typed !== pair || store.drilling.busy}>Start the drill</button>
    </form>
  );
}

function Row(props: { drill: Drill; actions: DrillActions }): VNode {
  const { drill } = props;
  const running = drill.verdict === null;
  const mood = running ? "busy" : kMood[drill.verdict!] ?? "unknown";
  const took = ((drill.ended_unix_ms ?? nowUnixMs()) - drill.created_unix_ms) / 1000;
  return (
    <li class={`task mood-${mood}`} key={drill.id}>
      <Icon name={mood} class="mood-icon" label={drill.verdict ?? "running"} />
      <div class="task-body">
        <div class="task-head">
          <b>{drill.pair}</b>
          <span class="muted">{kKinds[drill.kind]?.[0] ?? drill.kind}</span>
          <span class="drill-verdict">{format.title(drill.verdict ?? "running")}</span>
          <span class="muted task-time" title={format.dateTime(drill.created_unix_ms)}>
            {format.moment(drill.created_unix_ms)}, {running ? `for ${format.duration(took)}` : `took ${format.seconds(Math.max(0, took))}`}
          </span>
        </div>
        {drill.step === drill.verdict ? null : <p>{format.sentence(drill.step)}</p>}
        {running ? null : <p class="muted">RPO {drill.rpo_seconds === null ? "not measured" : format.seconds(drill.rpo_seconds)},
          RTO {drill.rto_seconds === null ? "not measured" : format.seconds(drill.rto_seconds)}</p>}
        <div class="drill-foot">
          <p class="muted task-actor">by {drill.actor}</p>
          <p class="drill-buttons">
            {running && may(drill.kind === "switchover" ? "operate" : "drill")
              ? <button class="button small" onclick={() => props.actions.stop(drill.id)}>Stop</button> : null}
            {running ? null : <a class="button small" href={`/api/v1/drills/${drill.id}/report.html`} target="_blank" rel="noopener">Report</a>}
            {running ? null : <a class="button small" href={`/api/v1/drills/${drill.id}/report`} download={`drill-${drill.id}.json`}>Signed JSON</a>}
          </p>
        </div>
      </div>
    </li>
  );
}

function Schedules(props: { actions: DrillActions }): VNode | null {
  const { schedules } = store.drilling;
  if (schedules.length === 0) return null;
  return (
    <section class="card" key="schedules">
      <h2><Icon name="pulse" />Every week</h2>
      <ul class="drill-list">
        {schedules.map((schedule) => (
          <li key={`${schedule.plan.pair} ${schedule.plan.kind}`}>
            <b>{schedule.plan.pair}</b>
            <span class="muted">{kKinds[schedule.plan.kind]?.[0]}, {format.title(schedule.weekday)} at {schedule.time},
              next on {format.dateTime(schedule.next_unix_ms)}</span>
            <span class="drill-buttons">
              {may("drill") ? <button class="button small" onclick={() => props.actions.forget(schedule)}>Remove</button> : null}
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}

export function DrillsPage(props: { actions: DrillActions }): VNode {
  const state = store.drilling;
  const allowed = may("drill") && store.session?.via !== "loopback";
  return (
    <main id="main" class="page" tabindex="-1">
      <div class="page-head"><h1>Drills</h1></div>
      {state.error ? <p class="alert severity-error" role="alert"><Icon name="error" /><span>{format.sentence(state.error)}</span></p> : null}
      {state.saved ? <p class="alert saved mood-good" role="status"><Icon name="good" class="mood-icon" /><span>{state.saved}</span></p> : null}
      {state.findings.map((finding) => (
        <p class={`alert severity-${finding.severity}`} role="alert"><Icon name={finding.severity} /><span>{format.sentence(finding.text)}</span></p>
      ))}
      <section class="card" key="start">
        <h2><Icon name="play" />Rehearse</h2>
        {!allowed ? <p class="muted quiet">Starting a drill needs a login with the right to.</p>
          : state.asking ? <Confirm actions={props.actions} /> : <Form actions={props.actions} />}
      </section>
      <Schedules actions={props.actions} />
      <section class="card" key="past">
        <h2><Icon name="pulse" />Drills of this site</h2>
        {store.drills.length === 0 ? <p class="muted quiet">No drill has been run from this site.</p>
          : <ul class="tasks">{store.drills.map((drill) => <Row drill={drill} actions={props.actions} />)}</ul>}
      </section>
    </main>
  );
}
