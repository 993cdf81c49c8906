// The strip that says where the VM is: site A, the link, site B, and the tiebreaker both ask.
import { h, VNode } from "./vdom";
import { Pair, Site, Status } from "./api";
import { Badge, Icon, MoodIcon } from "./icons";
import * as format from "./format";

const kSiteWords: { [word: string]: string } = {
  primary: "Primary", backup: "Backup", solo: "Solo", joining: "Joining", pairing: "Pairing",
  asking: "Asking the tiebreaker", waiting: "Frozen", going_live: "Going live", halted: "Halted",
  switching: "Switching", stopped: "Stopped", failed: "Failed", starting: "Starting", unknown: "Unknown",
};
const kVcpuWords: { [word: string]: string } = {
  running: "running", waiting: "idle", paused: "paused", stopped: "stopped", none: "no VM",
};

export function siteWord(word: string): string {
  return kSiteWords[word] ?? format.title(word);
}

// The site's own status, when its replicator is on this host too.
export function statusOf(pair: Pair, site: string): Status | null {
  const view = pair.views.find((candidate) => candidate.reachable && candidate.status?.site === site);
  return view?.status ?? null;
}
export function leaderStatus(pair: Pair): Status | null {
  const view = pair.views.find((candidate) => candidate.id === pair.leader);
  return view && view.reachable ? view.status : null;
}

function vmLine(pair: Pair, site: Site): string {
  const status = statusOf(pair, site.site);
  if (site.holds_vm) return status ? `VM ${kVcpuWords[status.vm.vcpu] ?? status.vm.vcpu}` : "VM runs here";
  if (site.word === "backup") return "replays every step";
  if (site.word === "joining") return "is being seeded";
  if (site.word === "halted") return "VM stopped, disk fenced";
  if (site.word === "waiting" || site.word === "asking") {
    return status?.role === "backup" ? "log kept, VM not live" : "VM computes, output held";
  }
  return "no VM";
}

function SiteCard(props: { pair: Pair; site: Site; here: boolean }): VNode {
  const { pair, site, here } = props;
  const status = statusOf(pair, site.site);
  return (
    <div class={`site-card mood-${site.mood} ${site.holds_vm ? "holds-vm" : ""}`} key={site.site}>
      <div class="site-top">
        <Icon name="server" class="site-icon" />
        <span class="site-name">{site.site}</span>
        {here ? <span class="chip" title="This page is served from this site">this host</span> : null}
      </div>
      <div class="site-word"><MoodIcon mood={site.mood} />{siteWord(site.word)}</div>
      <div class="site-vm">
        {site.holds_vm ? <Icon name="play" class="vm-icon" /> : null}
        {vmLine(pair, site)}
      </div>
      <div class="site-note" title={site.reason}>
        {site.seen && status ? `exit ${format.count(status.execution.exits)}` : format.sentence(site.reason)}
      </div>
    </div>
  );
}

function LinkBar(props: { pair: Pair; status: Status | null }): VNode {
  const { pair, status } = props;
  const up = status ? status.link.session_up : false;
  const beat = status ? status.link.heartbeat_up : false;
  const known = status !== null;
  const heard = up || beat;  // what was measured before the line fell silent is not the present
  const left = pair.sites[0];
  const towards = left && left.holds_vm ? "right" : "left";
  const word = !known ? "unknown" : up ? (beat ? "Link up" : "Link up, no heartbeat") : beat ? "Channel down" : "Link down";
  const mood = !known ? "unknown" : up && beat ? "good" : up || beat ? "warning" : "bad";
  return (
    <div class={`link-bar mood-${mood} ${up ? "up" : "down"} ${towards}`}>
      <div class="link-words">
        <Badge mood={mood} text={word} />
      </div>
      <div class="wire-line" aria-hidden="true">
        <div class="wire"><span class="flow" /></div>
        <span class="arrow" />
      </div>
      <dl class="link-facts">
        <div><dt>RTT</dt><dd>{format.seconds(heard ? status?.link.rtt_seconds : null)}</dd></div>
        <div><dt>Loss</dt><dd>{format.percent(heard ? status?.link.loss_ratio : null)}</dd></div>
        <div><dt>Log</dt><dd>{format.bytes(heard ? status?.log_rate.bytes_per_second : null, true)}</dd></div>
      </dl>
    </div>
  );
}

function TiebreakerCard(props: { status: Status | null }): VNode {
  const tiebreaker = props.status?.tiebreaker;
  const mood = !tiebreaker ? "unknown" : tiebreaker.reachable ? "good" : "warning";
  const record = tiebreaker?.record;
  const says = !record ? "no record known"
    : record.mode === "solo" ? `says solo: ${record.holder}, epoch ${record.epoch}`
    : `says ${record.mode}, epoch ${record.epoch}`;
  return (
    <div class={`tiebreaker-card mood-${mood}`}>
      <div class="site-top">
        <Icon name="balance" class="site-icon" />
        <span class="site-name">Tiebreaker</span>
      </div>
      <div class="site-word small">
        <MoodIcon mood={mood} />
        {!tiebreaker ? "Unknown" : tiebreaker.reachable ? "Reachable" : "Not reachable"}
      </div>
      <div class="site-note" title={tiebreaker?.text}>
        {tiebreaker && !tiebreaker.reachable && tiebreaker.text ? tiebreaker.text : says}
      </div>
    </div>
  );
}

export function Topology(props: { pair: Pair }): VNode {
  const { pair } = props;
  const status = leaderStatus(pair);
  const [a, b] = pair.sites;
  const here = (site: Site) => pair.views.length === 1 && site.seen;
  return (
    <section class="topology" aria-label="Where the VM is">
      {a ? <SiteCard pair={pair} site={a} here={here(a)} /> : null}
      <LinkBar pair={pair} status={status} />
      {b ? <SiteCard pair={pair} site={b} here={here(b)} />
         : <div class="site-card mood-unknown"><div class="site-word">No peer known</div></div>}
      <div class={`tie-lines mood-${status?.tiebreaker.reachable ? "good" : "warning"}`} aria-hidden="true" />
      <TiebreakerCard status={status} />
    </section>
  );
}
