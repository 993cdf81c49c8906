// Replicated disks on this host: their states and why, what a resync still has to do, what each
// choice in a split brain would lose, and what can be ordered.
import { h, VNode } from "../vdom";
import { get, Mood, Page } from "../api";
import { Badge, Icon } from "../icons";
import { may, nowUnixMs } from "../store";
import { DiskAction, isSplit, OrderBar, OrderDialogView } from "./disk_orders";
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
export interface GroupStatus {
  link: string; link_reason: string; peer: string; peer_address: string; mode: string; backlog_bytes: number;
  policies?: { [name: string]: string | number | boolean };
  disks: ReplicatedDisk[];
}
export interface DiskGroup { group: string; reachable: boolean; error: string; status: GroupStatus | null; }

const state: { groups: Page<DiskGroup> | null; actions: DiskAction[] } = { groups: null, actions: [] };

export async function loadDisks(): Promise<void> {
  state.groups = await get<Page<DiskGroup>>("/api/v1/replicated-disks");
  if (state.actions.length === 0) state.actions = (await get<Page<DiskAction>>("/api/v1/replicated-disks/actions")).items;
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
  const when = format.dateTime(disk.verify_ended_at * 1000);
  return <div class="muted">{disk.verify_complete ? "Verified" : "A verify broke off"} {when}, {found} in {format.count(disk.verify_blocks)} blocks.</div>;
}

function Loss(props: { who: string; preview?: Preview }): VNode | null {
  const { preview } = props;
  if (!preview) return null;
  const since = preview.lost_since ? `, written in the last ${format.since(preview.lost_since * 1000, nowUnixMs())}` : "";
  return (
    <div>{props.who}: {preview.exact ? "" : "at least "}{preview.blocks_lost} blocks ({format.binaryBytes(preview.bytes_of_blocks)}) are lost{since}.</div>
  );
}

// Both copies were written: what each choice would lose, before anybody makes one.
function SplitBrain(props: { status: GroupStatus }): VNode {
  const { status } = props;
  return (
    <div class="notice bad mood-bad" role="note">
      <p><Icon name="error" class="mood-icon" /> <b>Both copies were written. Somebody has to say whose changes are given up.</b></p>
      {status.disks.filter((disk) => disk.decision === "split-brain").map((disk) => (
        <div key={disk.name}>
          <b>{disk.name}</b>
          <Loss who="If this site wins" preview={disk.if_this_site_wins} />
          <Loss who="If the peer wins" preview={disk.if_the_peer_wins} />
        </div>
      ))}
      <p class="muted">The site whose changes are given up is told so: here, or on the page of {status.peer}. What is given up is kept in a
        file until it is removed.</p>
    </div>
  );
}

function DiskRow(props: { disk: ReplicatedDisk }): VNode {
  const { disk } = props;
  return (
    <tr key={disk.name}>
      <td><b>{disk.name}</b><div class="muted nowrap">{format.binaryBytes(disk.size_bytes)}</div></td>
      <td>{disk.role}</td>
      <td>
        <Badge mood={moodOf(disk)} text={disk.state} />
        {disk.reason ? <div class="muted">{format.sentence(disk.reason)}</div> : null}
        {disk.store_health !== "ok" ? <div class="muted">Store: {disk.store_health}. {format.sentence(disk.store_reason)}</div> : null}
        {(disk.kept_undo ?? []).map((kept) => (
          <div class="muted">Kept from a split brain, {format.dateTime(kept.kept_at * 1000)}: <code>{kept.file}</code> ({format.binaryBytes(kept.bytes)}).</div>
        ))}
      </td>
      <td>{disk.peer_state ?? format.kUnknown}</td>
      <td><Progress disk={disk} /><LastVerify disk={disk} /></td>
      <td class="num">{disk.epoch}</td>
    </tr>
  );
}

function policyWord(setting: string | number | boolean): string {
  return typeof setting === "boolean" ? (setting ? "yes" : "no") : String(setting);
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
      {status && isSplit(status) ? <SplitBrain status={status} /> : null}
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
          {Object.entries(status.policies).map(([name, text]) => <div><dt>{format.sentence(name.replace(/_/g, " "))}</dt><dd>{policyWord(text)}</dd></div>)}
        </dl>
      ) : null}
      {may("operate") ? <OrderBar group={group} actions={state.actions} draw={draw} /> : null}
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
      <OrderDialogView draw={props.draw} changed={loadDisks} />
    </main>
  );
}
