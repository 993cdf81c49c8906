// Replicated disks on this host: their states and why, what a resync still has to do, what each choice in a split brain would
// lose, and what can be ordered.
import { h, VNode } from "../vdom";
import { ApiError, get, Mood, newKey, Page, send } from "../api";
import { Badge } from "../icons";
import { may } from "../store";
import * as format from "../format";

interface Preview { blocks_lost: number; bytes_of_blocks: number; lost_since: number; exact: boolean; }
interface ReplicatedDisk {
  name: string; store: string; store_health: string; store_reason: string; role: string; state: string; size_bytes: number;
  epoch: number; marked_blocks: number; phase: string; paused: boolean; undo_bytes: number; verify_differences: number;
  verify_ended_at?: number; verify_complete?: boolean; verify_blocks?: number;
  reason: string; peer_state?: string; decision?: string; decision_reason?: string;
  if_this_site_wins?: Preview; if_the_peer_wins?: Preview;
  kept_undo?: { file: string; kept_at: number; bytes: number }[];
  blocks_total?: number; blocks_left?: number; bytes_per_second?: number; seconds_left?: number;
}
interface GroupStatus {
  link: string; link_reason: string; peer: string; peer_address: string; mode: string; backlog_bytes: number;
  policies?: { [name: string]: string | number | boolean };
  disks: ReplicatedDisk[];
}
export interface DiskGroup { group: string; reachable: boolean; error: string; status: GroupStatus | null; }
interface DiskAction { name: string; summary: string; confirmed: boolean; allowed: boolean; }

// What is shown, and what is typed in.
interface State {
  groups: Page<DiskGroup> | null; actions: DiskAction[]; chosen: { [group: string]: string }; said: { [group: string]: string };
}
const state: State = { groups: null, actions: [], chosen: {}, said: {} };

export async function loadDisks(): Promise<void> {
  state.groups = await get<Page<DiskGroup>>("/api/v1/replicated-disks");
  if (state.actions.length === 0) state.actions = (await get<Page<DiskAction>>("/api/v1/replicated-disks/actions")).items;
}

// The fields that an action takes, by name (web/routes/disks.cc).
function bodyOf(action: string, data: FormData, disk: string): { [name: string]: unknown } {
  const body: { [name: string]: unknown } = {};
  const value = String(data.get("value") ?? "").trim();
  if (String(data.get("confirm") ?? "")) body.confirm = String(data.get("confirm"));
  if (action === "verify" || action === "resize") body.disk = value || disk;
  if (action === "rate") body.bytes_per_second = Math.round(Number(value) * 1e6);
  if (action === "mode") body.mode = value;
  if (action === "promote" && value === "force") body.force = true;
  return body;
}

const kValueHint: { [action: string]: string } = {
  verify: "disk", resize: "disk", rate: "MB/s, 0 = no limit", mode: "async, semi-sync or sync", promote: "force, if the peer is lost",
};

async function order(group: DiskGroup, form: HTMLFormElement, draw: () => void): Promise<void> {
  const action = state.chosen[group.group] ?? "verify";
  state.said[group.group] = "";
  try {
    const body = bodyOf(action, new FormData(form), group.status?.disks[0]?.name ?? "");
    await send("POST", `/api/v1/replicated-disks/${encodeURIComponent(group.group)}/actions/${action}`, body, { "Idempotency-Key": newKey() });
    state.said[group.group] = `${action}: done.`;
    form.reset();
    await loadDisks();
  } catch (error) {
    state.said[group.group] = error instanceof ApiError ? format.sentence(error.message) : String(error);
  }
  draw();
}

function moodOf(disk: ReplicatedDisk): Mood {
  if (disk.state === "UpToDate") return disk.store_health === "ok" ? "good" : "warning";
  if (disk.state === "Failed") return "bad";
  return disk.phase === "resync" ? "busy" : "warning";
}

function groupMood(group: DiskGroup): Mood {
  if (!group.status) return "unknown";
  if (group.status.link === "halted") return "bad";
  if (group.status.link !== "connected") return "warning";
  const moods = group.status.disks.map(moodOf);
  return moods.includes("bad") ? "bad" : moods.includes("warning") ? "warning" : moods.includes("busy") ? "busy" : "good";
}

function Progress(props: { disk: ReplicatedDisk }): VNode {
  const { disk } = props;
  if (disk.phase === "idle") return <span class="muted">{disk.marked_blocks ? `${format.binaryBytes(disk.marked_blocks * 65536)} marked` : "in sync"}</span>;
  if (!disk.blocks_total) return <span>{disk.phase}</span>;
  const done = 1 - (disk.blocks_left ?? 0) / disk.blocks_total;
  return (
    <span>
      {disk.phase} {format.percent(done)}{disk.paused ? ", paused" : ""}, {format.bytes(disk.bytes_per_second, true)}
      {disk.seconds_left !== undefined ? `, ${format.seconds(disk.seconds_left)} left` : ""}
    </span>
  );
}

function LastVerify(props: { disk: ReplicatedDisk }): VNode | null {
  const { disk } = props;
  if (disk.verify_ended_at === undefined) return null;
  const found = disk.verify_differences ? `${disk.verify_differences} differences` : "no difference";
  const when = new Date(disk.verify_ended_at * 1000).toLocaleString();
  return <div class="muted">{disk.verify_complete ? "Verified" : "A verify broke off"} {when}, {found} in {disk.verify_blocks} blocks.</div>;
}

function Loss(props: { who: string; preview?: Preview }): VNode | null {
  const { preview } = props;
  if (!preview) return null;
  const since = preview.lost_since ? `, written since ${new Date(preview.lost_since * 1000).toLocaleString()}` : "";
  return (
    <div>{props.who}: {preview.exact ? "" : "at least "}{preview.blocks_lost} blocks ({format.binaryBytes(preview.bytes_of_blocks)}) are lost{since}.</div>
  );
}

function DiskRow(props: { disk: ReplicatedDisk }): VNode {
  const { disk } = props;
  const asks = disk.decision === "split-brain";
  return (
    <tr key={disk.name}>
      <td><b>{disk.name}</b><div class="muted">{format.binaryBytes(disk.size_bytes)}</div></td>
      <td>{disk.role}</td>
      <td>
        <Badge mood={moodOf(disk)} text={disk.state} />
        {disk.reason ? <div class="muted">{format.sentence(disk.reason)}</div> : null}
        {disk.store_health !== "ok" ? <div class="muted">Store: {disk.store_health}. {format.sentence(disk.store_reason)}</div> : null}
        {(disk.kept_undo ?? []).map((kept) => (
          <div class="muted">Kept from a split brain, {new Date(kept.kept_at * 1000).toLocaleString()}: <code>{kept.file}</code> ({format.binaryBytes(kept.bytes)}).</div>
        ))}
        {asks ? <div><Loss who="If this site wins" preview={disk.if_this_site_wins} /><Loss who="If the peer wins" preview={disk.if_the_peer_wins} /></div> : null}
      </td>
      <td>{disk.peer_state ?? format.kUnknown}</td>
      <td><Progress disk={disk} /><LastVerify disk={disk} /></td>
      <td class="num">{disk.epoch}</td>
    </tr>
  );
}

function Orders(props: { group: DiskGroup; draw: () => void }): VNode | null {
  const { group, draw } = props;
  if (!may("operate") || state.actions.length === 0) return null;
  const name = state.chosen[group.group] ?? "verify";
  const action = state.actions.find((each) => each.name === name);
  return (
    <form class="inline-form" onsubmit={(event: Event) => { event.preventDefault(); order(group, event.target as HTMLFormElement, draw); }}>
      <select aria-label="Action" value={name}
              onchange={(event: Event) => { state.chosen[group.group] = (event.target as HTMLSelectElement).value; draw(); }}>
        {state.actions.filter((each) => each.allowed).map((each) => <option value={each.name}>{each.name}</option>)}
      </select>
      {kValueHint[name] ? <input name="value" placeholder={kValueHint[name]} aria-label={kValueHint[name]} /> : null}
      {action?.confirmed || name === "promote"
        ? <input name="confirm" placeholder={`type ${group.group} to confirm`} aria-label="Confirm" autocomplete="off" /> : null}
      <button class="button small" type="submit">Do it</button>
      <span class="muted">{format.sentence(action?.summary ?? "")}</span>
      <span role="status">{state.said[group.group] ?? ""}</span>
    </form>
  );
}

function Group(props: { group: DiskGroup; draw: () => void }): VNode {
  const { group, draw } = props;
  const { status } = group;
  const mood = groupMood(group);
  return (
    <li class={`card link-card mood-${mood}`} key={group.group}>
      <div class="link-head">
        <h2>{group.group}</h2>
        <Badge mood={mood} text={status ? (status.link === "connected" ? "Connected" : format.sentence(status.link)) : "No answer"} />
        {status ? <span class="muted">{status.mode}, to {status.peer} <code>{status.peer_address}</code></span> : null}
      </div>
      {status?.link_reason ? <p>{format.sentence(status.link_reason)}</p> : null}
      {group.error ? <p>{format.sentence(group.error)}</p> : null}
      {status ? (
        <div class="scroll">
          <table>
            <thead><tr><th>Disk</th><th>Role</th><th>State</th><th>Peer</th><th>Progress</th><th class="num">Epoch</th></tr></thead>
            <tbody>{status.disks.map((disk) => <DiskRow disk={disk} />)}</tbody>
          </table>
        </div>
      ) : null}
      {status?.policies ? (
        <dl class="facts">
          {Object.entries(status.policies).map(([name, text]) => <div><dt>{format.sentence(name.replace(/_/g, " "))}</dt><dd>{String(text)}</dd></div>)}
        </dl>
      ) : null}
      <Orders group={group} draw={draw} />
    </li>
  );
}

export function DisksPage(props: { draw: () => void }): VNode {
  const items = state.groups?.items;
  return (
    <main id="main" class="page" tabindex="-1">
      <div class="page-head"><h1>Replicated disks</h1></div>
      {!items ? <p class="loading">Asking the disks…</p>
        : items.length === 0 ? <p class="muted quiet">No replicated disks are served on this host.</p>
        : <ul class="stack">{items.map((group) => <Group group={group} draw={props.draw} />)}</ul>}
    </main>
  );
}
