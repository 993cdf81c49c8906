// What can be ordered of a group of replicated disks: buttons that fit its state, and the dialog
// that each opens, which first asks what would happen.
import { Preflight, Typed } from "../actions";
import { ActionReply, keyAfter, messageOf, newKey, send } from "../api";
import { Dialog, Field, value } from "../dialog";
import { h, VNode } from "../vdom";
import * as format from "../format";
import type { DiskGroup, GroupStatus } from "./disks";

export interface DiskAction { name: string; summary: string; confirmed: boolean; allowed: boolean; }

type Takes = "disk" | "rate" | "mode" | "force";
interface OrderInfo {
  name: string;   // as the server knows it (web/routes/disks.cc)
  label: string;  // on the button
  go: string;     // on the dialog's button
  takes?: Takes;
  danger?: boolean;
  fits: (status: GroupStatus) => boolean;
}

const any = (): boolean => true;
const isConnected = (status: GroupStatus) => status.link === "connected";
const hasRole = (role: string) => (status: GroupStatus) => status.disks.some((disk) => disk.role === role);
const isPaused = (status: GroupStatus) => status.disks.some((disk) => disk.paused);
export const isSplit = (status: GroupStatus) => status.disks.some((disk) => disk.decision === "split-brain");

const kOrders: OrderInfo[] = [
  { name: "verify", label: "Verify", go: "Compare and repair", takes: "disk", fits: any },
  { name: "promote", label: "Promote", go: "Promote", takes: "force", fits: hasRole("secondary") },
  { name: "demote", label: "Demote", go: "Demote", fits: hasRole("primary") },
  { name: "pause", label: "Pause the sync", go: "Pause", fits: (status) => !isPaused(status) },
  { name: "resume", label: "Resume the sync", go: "Resume", fits: isPaused },
  { name: "rate", label: "Limit the rate", go: "Set the limit", takes: "rate", fits: any },
  { name: "mode", label: "Change the mode", go: "Change the mode", takes: "mode", fits: any },
  { name: "connect", label: "Connect", go: "Connect", fits: (status) => !isConnected(status) },
  { name: "disconnect", label: "Disconnect", go: "Disconnect", fits: isConnected },
  { name: "resize", label: "Resize", go: "Take up the new size", takes: "disk", fits: any },
  { name: "resync", label: "Send everything again", go: "Send everything", fits: isConnected },
  { name: "outdate", label: "Outdate", go: "Outdate", danger: true, fits: hasRole("secondary") },
  { name: "invalidate", label: "Invalidate", go: "Give this copy up", danger: true, fits: any },
  { name: "discard-mine", label: "Give this site's changes up", go: "Give the changes up", danger: true, fits: isSplit },
];

interface OrderDialog {
  group: DiskGroup; info: OrderInfo; stage: "checking" | "ready" | "sending"; reply: ActionReply | null; error: string; key: string;
  typed: string; note: string; disk: string; mode: string; megabytes: string; forced: boolean;
}
let dialog: OrderDialog | null = null;
const said: { [group: string]: string } = {};  // how the last order went, for who cannot see the table change

function ask(asked: OrderDialog, check: boolean): Promise<ActionReply> {
  const body: { [name: string]: unknown } = { check };
  if (!check && asked.typed) body.confirm = asked.typed;
  if (asked.note) body.note = asked.note;
  if (asked.info.takes === "disk") body.disk = asked.disk;
  if (asked.info.takes === "mode") body.mode = asked.mode;
  if (asked.info.takes === "rate") body.bytes_per_second = Math.round(Number(asked.megabytes) * 1e6);
  if (asked.info.takes === "force") body.force = asked.forced;
  const path = `/api/v1/replicated-disks/${encodeURIComponent(asked.group.group)}/actions/${asked.info.name}`;
  return send<ActionReply>("POST", path, body, check ? {} : { "Idempotency-Key": asked.key });
}

// Asks what would happen; again whenever an argument changes.
async function recheck(draw: () => void): Promise<void> {
  const asked = dialog;
  if (!asked) return;
  asked.stage = "checking";
  draw();
  try {
    asked.reply = await ask(asked, true);
    asked.error = "";
  } catch (error) {
    asked.reply = null;
    asked.error = messageOf(error);
  }
  asked.stage = "ready";
  draw();
}

function open(group: DiskGroup, info: OrderInfo, draw: () => void): void {
  dialog = {
    group, info, stage: "checking", reply: null, error: "", key: newKey(), typed: "", note: "",
    disk: group.status?.disks[0]?.name ?? "", mode: group.status?.mode ?? "async", megabytes: "0", forced: false,
  };
  recheck(draw);
}

async function go(draw: () => void, changed: () => Promise<void>): Promise<void> {
  const asked = dialog!;
  asked.stage = "sending";
  asked.error = "";
  draw();
  try {
    await ask(asked, false);
    said[asked.group.group] = `${asked.info.label}: done.`;
    if (dialog === asked) dialog = null;
    await changed();
  } catch (error) {
    asked.error = messageOf(error);
    asked.stage = "ready";
    asked.key = keyAfter(error, asked.key);
  }
  draw();
}

export function OrderBar(props: { group: DiskGroup; actions: DiskAction[]; draw: () => void }): VNode | null {
  const { group, draw } = props;
  const { status } = group;
  if (!status) return null;
  const allowed = new Set(props.actions.filter((action) => action.allowed).map((action) => action.name));
  const fitting = kOrders.filter((info) => allowed.has(info.name) && info.fits(status));
  if (fitting.length === 0) return null;
  return (
    <div class="action-bar" role="group" aria-label={`Orders to ${group.group}`}>
      {fitting.map((info) => (
        <button class={`button small ${info.danger ? "danger-text" : ""}`} key={info.name}
                onclick={() => open(group, info, draw)}>{info.label}…</button>
      ))}
      <span class="screen-reader" role="status">{said[group.group] ?? ""}</span>
    </div>
  );
}

function Arguments(props: { asked: OrderDialog; draw: () => void }): VNode | null {
  const { asked, draw } = props;
  const again = () => { recheck(draw); };
  switch (asked.info.takes) {
    case "disk":
      return (
        <Field label="Disk">
          <select value={asked.disk} onchange={(event: Event) => { asked.disk = value(event); again(); }}>
            {(asked.group.status?.disks ?? []).map((disk) => <option value={disk.name}>{disk.name}</option>)}
          </select>
        </Field>
      );
    case "mode":
      return (
        <Field label="A write is answered when" hint="Until the next start; for good in the group's file">
          <select value={asked.mode} onchange={(event: Event) => { asked.mode = value(event); again(); }}>
            <option value="async">this site has it (async)</option>
            <option value="semi-sync">the peer has received it (semi-sync)</option>
            <option value="sync">the peer has written it (sync)</option>
          </select>
        </Field>
      );
    case "rate":
      return (
        <Field label="The most a resync may send, MB/s" hint="0: no limit">
          <input type="number" min="0" step="any" value={asked.megabytes}
                 oninput={(event: Event) => { asked.megabytes = value(event); }} onchange={again} />
        </Field>
      );
    case "force":
      return (
        <label class="swear">
          <input type="checkbox" checked={asked.forced}
                 onchange={(event: Event) => { asked.forced = (event.target as HTMLInputElement).checked; again(); }} />
          <span>The peer is lost, and what it has not sent is given up. If it still serves its copy, both will be written, and one
            will have to be thrown away.</span>
        </label>
      );
    default:
      return null;
  }
}

export function OrderDialogView(props: { draw: () => void; changed: () => Promise<void> }): VNode | null {
  const asked = dialog;
  if (!asked) return null;
  const { draw } = props;
  const { info, reply } = asked;
  const wanted = reply?.confirm ?? null;
  const ready = asked.stage === "ready" && reply !== null && reply.allowed && (wanted === null || asked.typed === wanted);
  const close = () => { dialog = null; draw(); };
  return (
    <Dialog label={info.label} close={close}>
      <form onsubmit={(event: Event) => { event.preventDefault(); if (ready) go(draw, props.changed); }}>
        <h2>{info.label}</h2>
        <p class="dialog-target">Replicated disks <b>{asked.group.group}</b></p>
        <Arguments asked={asked} draw={draw} />
        <Preflight stage={asked.stage} reply={reply} />
        {asked.error ? <p class="form-error" role="alert">{format.sentence(asked.error)}</p> : null}
        {wanted !== null ? <Typed dialog={asked} wanted={wanted} draw={draw} /> : null}
        <div class="dialog-buttons">
          <button type="button" class="button" onclick={close}>Cancel</button>
          <button class={`button ${info.danger || wanted !== null ? "danger" : "primary"}`} disabled={!ready}>
            {asked.stage === "sending" ? "Asking…" : info.go}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
