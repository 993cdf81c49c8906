// What can be done to a VM: buttons that fit its state, and the dialog that each opens. The dialog first
// asks the replicator what would happen (a preflight, which does nothing), shows it, and lets what can
// hurt be done only after the VM's name was typed.
import { ActionReply, keyAfter, messageOf, newKey, Pair, send } from "./api";
import { Dialog, Field, value } from "./dialog";
import { Icon } from "./icons";
import { ActionDialog, may, store } from "./store";
import { h, VNode } from "./vdom";
import * as format from "./format";

interface ActionInfo {
  name: string;
  label: string;     // on the button
  title: string;     // of the dialog
  go: string;        // on the dialog's button
  access: "drill" | "operate" | "admin";
  danger: boolean;
  fits: (states: string[]) => boolean;  // states of the sites that are seen
}

const has = (...wanted: string[]) => (states: string[]) => states.some((state) => wanted.includes(state));

export const kActions: ActionInfo[] = [
  { name: "switchover", label: "Switch over", title: "Switch over to the other site", go: "Switch over",
    access: "operate", danger: false, fits: has("primary") },
  { name: "protect", label: "Protect", title: "Protect this VM again", go: "Protect", access: "operate",
    danger: false, fits: has("solo") },
  { name: "rejoin", label: "Rejoin", title: "Bring the halted site back as the backup", go: "Give its copy up and rejoin",
    access: "operate", danger: true, fits: has("halted", "failed") },
  { name: "reclaim", label: "Boot again", title: "Boot the VM again from this site's disks", go: "Boot it again",
    access: "operate", danger: true, fits: has("starting") },
  { name: "force", label: "Force", title: "Go live without the tiebreaker", go: "Force", access: "admin",
    danger: true, fits: has("waiting") },
  { name: "drill_start", label: "Drill", title: "Start a drill at the backup", go: "Start the drill", access: "drill",
    danger: false, fits: has("backup") },
  { name: "failover", label: "Fail over", title: "Fail over to the backup", go: "Fail over", access: "operate",
    danger: true, fits: has("backup") },
  { name: "pause", label: "Pause", title: "Pause the VM", go: "Pause", access: "operate", danger: true,
    fits: has("primary", "solo", "pairing") },
  { name: "resume", label: "Resume", title: "Let the VM go on", go: "Resume", access: "operate", danger: false,
    fits: has("primary", "solo", "pairing") },
  { name: "inject_fault", label: "Inject a fault", title: "Inject a fault, with an automatic end", go: "Inject",
    access: "drill", danger: true, fits: has("primary", "backup") },
  { name: "verify", label: "Verify the disks", title: "Compare the disks of both sites", go: "Compare", access: "operate",
    danger: false, fits: has("primary") },
  { name: "resync", label: "Repair the backup's disks", title: "Compare the disks, and write the backup's anew where they differ",
    go: "Compare and repair", access: "operate", danger: true, fits: has("primary") },
  { name: "seed", label: "Seed again", title: "Give the backup up and seed it again", go: "Seed again", access: "operate",
    danger: true, fits: has("primary") },
  { name: "unprotect", label: "Unprotect", title: "Give the backup up", go: "Give the backup up", access: "operate",
    danger: true, fits: has("primary") },
  { name: "enrol", label: "Enrol again", title: "Enrol the pair again, with a tiebreaker that has lost its record",
    go: "Enrol again", access: "admin", danger: true, fits: has("primary", "solo", "pairing") },
  { name: "shutdown", label: "Shut down", title: "Stop the VM and its pair", go: "Shut down", access: "operate",
    danger: true, fits: has("primary", "solo", "pairing") },
];
const kFirst = 4;  // buttons; the rest is behind "More"

const kFaults: { [fault: string]: string } = {
  link_cut: "Cut the link", link_degrade: "Degrade the link", tiebreaker_cut: "Cut the way to the tiebreaker",
  kill_primary: "Kill the primary",
};

export function actionLabel(name: string): string {
  return kActions.find((action) => action.name === name)?.label ?? format.title(name);
}

function statesOf(pair: Pair): string[] {
  return pair.views.filter((view) => view.reachable && view.status).map((view) => view.status!.state);
}

function isPaused(pair: Pair): boolean {
  return pair.views.some((view) => view.reachable && view.status?.vm.vcpu === "paused");
}

export class Actions {
  constructor(private readonly draw: () => void) {}

  open(action: string, pair: string): void {
    store.moreOpen = false;
    store.dialog = {
      action, pair, stage: "checking", reply: null, error: "", key: newKey(), typed: "", note: "", sworn: false,
      accepted: false, fault: "link_cut", seconds: "10",
    };
    this.check();
  }

  close = (): void => {
    store.dialog = null;
    this.draw();
  };

  // Asks what would happen; again whenever an argument changes.
  async check(): Promise<void> {
    const dialog = store.dialog;
    if (!dialog) return;
    this.draw();
    try {
      const reply = await this.ask(dialog, true);
      if (store.dialog !== dialog) return;
      dialog.reply = reply;
      dialog.error = "";
    } catch (error) {
      dialog.error = messageOf(error);
    }
    dialog.stage = "ready";
    this.draw();
  }

  async go(): Promise<void> {
    const dialog = store.dialog;
    if (!dialog || dialog.stage !== "ready") return;
    dialog.stage = "sending";
    dialog.error = "";
    this.draw();
    try {
      await this.ask(dialog, false);
      if (store.dialog === dialog) store.dialog = null;
    } catch (error) {
      dialog.error = messageOf(error);
      dialog.stage = "ready";
      dialog.key = keyAfter(error, dialog.key);
    }
    this.draw();
  }

  private ask(dialog: ActionDialog, check: boolean): Promise<ActionReply> {
    const body: { [name: string]: unknown } = { check };
    if (!check && dialog.typed) body.confirm = dialog.typed;
    if (dialog.note) body.note = dialog.note;
    if (dialog.action === "force") {
      body.peer_is_down = dialog.sworn;
      body.accept_loss = dialog.accepted;
    }
    if (dialog.action === "inject_fault") {
      body.fault = dialog.fault;
      body.duration_seconds = Number(dialog.seconds);
    }
    const headers: { [name: string]: string } = check ? {} : { "Idempotency-Key": dialog.key };
    const path = `/api/v1/pairs/${encodeURIComponent(dialog.pair)}/actions/${dialog.action}`;
    return send<ActionReply>("POST", path, body, headers);
  }
}

export function ActionBar(props: { pair: Pair; actions: Actions; draw: () => void }): VNode | null {
  const { pair, actions } = props;
  if (store.session?.via === "loopback" || !may("drill")) return null;
  const states = statesOf(pair);
  const paused = isPaused(pair);
  const fitting = kActions.filter((action) => may(action.access) && action.fits(states) &&
    !(action.name === "resume" && !paused) && !(action.name === "pause" && paused));
  if (fitting.length === 0) return null;
  const button = (action: ActionInfo) => (
    <button class={`button ${action.danger ? "danger-text" : ""}`} key={action.name}
            onclick={() => actions.open(action.name, pair.name)}>{action.label}…</button>
  );
  const rest = fitting.slice(kFirst);
  const toggle = (open: boolean) => { store.moreOpen = open; props.draw(); };
  return (
    <div class="action-bar" role="group" aria-label="Actions">
      {fitting.slice(0, kFirst).map(button)}
      {rest.length > 0 ? (
        <div class="menu" key="more" onkeydown={(event: KeyboardEvent) => { if (event.key === "Escape") toggle(false); }}>
          <button class="button" aria-haspopup="menu" aria-expanded={String(store.moreOpen)}
                  onclick={() => toggle(!store.moreOpen)}>More<Icon name="down" /></button>
          {store.moreOpen ? (
            <div class="menu-list" role="menu">
              {rest.map((action) => (
                <button role="menuitem" class={action.danger ? "danger-text" : ""}
                        onclick={() => actions.open(action.name, pair.name)}>{action.label}…</button>
              ))}
            </div>
          ) : null}
        </div>
      ) : null}
    </div>
  );
}

// What the action itself wants to know.
function Arguments(props: { dialog: ActionDialog; actions: Actions }): VNode | null {
  const { dialog, actions } = props;
  const recheck = () => { dialog.stage = "checking"; actions.check(); };
  if (dialog.action === "force") {
    // Asked for only where it stands in the way: where the copy is whole nothing is lost.
    const lacks = dialog.accepted || (dialog.reply?.findings ?? []).some((finding) => finding.text.includes("acknowledged writes"));
    return (
      <div class="stack">
        <label class="swear">
          <input type="checkbox" checked={dialog.sworn}
                 onchange={(event: Event) => { dialog.sworn = (event.target as HTMLInputElement).checked; recheck(); }} />
          <span>I have made sure that the other site is down and stays down. If it is not, two copies of this VM will
            run, and one will have to be thrown away.</span>
        </label>
        {lacks ? (
          <label class="swear" key="loss">
            <input type="checkbox" checked={dialog.accepted}
                   onchange={(event: Event) => { dialog.accepted = (event.target as HTMLInputElement).checked; recheck(); }} />
            <span>This site's copy may lack writes that the VM's clients were told of. I accept that they are lost.</span>
          </label>
        ) : null}
      </div>
    );
  }
  if (dialog.action === "inject_fault") {
    return (
      <div class="fields">
        <Field label="Fault">
          <select value={dialog.fault} onchange={(event: Event) => { dialog.fault = value(event); recheck(); }}>
            {Object.keys(kFaults).map((fault) => <option value={fault}>{kFaults[fault]}</option>)}
          </select>
        </Field>
        <Field label="Ends by itself after" hint="seconds">
          <input type="number" min="1" max="600" value={dialog.seconds}
                 oninput={(event: Event) => { dialog.seconds = value(event); }} onchange={recheck} />
        </Field>
      </div>
    );
  }
  return null;
}

// What would happen, and what is known to speak against it.
export function Preflight(props: { stage: ActionDialog["stage"]; reply: ActionReply | null }): VNode | null {
  const { reply } = props;
  if (props.stage === "checking") return <p class="preflight muted" role="status">Checking what would happen…</p>;
  if (!reply) return null;
  return (
    <div class="preflight" role="status">
      <p class="consequence">{format.sentence(reply.consequence)}</p>
      {reply.findings.length > 0 ? (
        <ul class="findings">
          {reply.findings.map((finding) => (
            <li class={`severity-${finding.severity}`}>
              <Icon name={finding.severity} label={finding.severity} />{format.sentence(finding.text)}
            </li>
          ))}
        </ul>
      ) : null}
      {reply.allowed && reply.findings.length === 0
        ? <p class="all-clear"><Icon name="good" />Nothing stands against it.</p> : null}
    </div>
  );
}

// What can hurt is done only after its object's name was typed.
export function Typed(props: { dialog: { typed: string; note: string }; wanted: string; draw: () => void }): VNode {
  const { dialog } = props;
  return (
    <div class="stack">
      <Field label={`Type ${props.wanted} to confirm`}>
        <input value={dialog.typed} autocomplete="off" autocapitalize="none" spellcheck="false"
               oninput={(event: Event) => { dialog.typed = value(event); props.draw(); }} />
      </Field>
      <Field label="Note for the audit log, if you like">
        <input value={dialog.note} maxlength="500" oninput={(event: Event) => { dialog.note = value(event); }} />
      </Field>
    </div>
  );
}

export function ActionDialogView(props: { actions: Actions; draw: () => void }): VNode | null {
  const dialog = store.dialog;
  if (!dialog) return null;
  const info = kActions.find((action) => action.name === dialog.action)!;
  const reply = dialog.reply;
  const wanted = reply?.confirm ?? null;
  const allowed = reply !== null && reply.allowed && dialog.stage === "ready";
  const confirmed = wanted === null || dialog.typed === wanted;
  return (
    <Dialog label={info.title} close={props.actions.close}>
      <form onsubmit={(event: Event) => { event.preventDefault(); if (allowed && confirmed) props.actions.go(); }}>
        <h2>{info.title}</h2>
        <p class="dialog-target">
          VM <b>{dialog.pair}</b>{reply ? <span>, asked of <b>{reply.site}</b></span> : null}
        </p>
        <Arguments dialog={dialog} actions={props.actions} />
        <Preflight stage={dialog.stage} reply={reply} />
        {dialog.error ? <p class="form-error" role="alert">{format.sentence(dialog.error)}</p> : null}
        {reply && reply.allowed && wanted !== null ? <Typed dialog={dialog} wanted={wanted} draw={props.draw} /> : null}
        <div class="dialog-buttons">
          <button type="button" class="button" onclick={props.actions.close}>Cancel</button>
          <button class={`button ${info.danger ? "danger" : "primary"}`} disabled={!allowed || !confirmed}>
            {dialog.stage === "sending" ? "Asking…" : info.go}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
