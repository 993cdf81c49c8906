// The lines between the sites, pair by pair, as each site on this host measures them.
import { h, VNode } from "../vdom";
import { Page } from "../api";
import { Badge, Icon } from "../icons";
import * as format from "../format";

export interface Link {
  pair: string; site: string; peer_site: string; session_up: boolean; heartbeat_up: boolean; peer_address: string;
  rtt_seconds: number | null; jitter_seconds: number | null; loss_ratio: number | null; sent_bytes: number;
  received_bytes: number; reconnects: number; last_heard_seconds: number | null;
  sent_bytes_per_second?: number | null; received_bytes_per_second?: number | null; clock_offset_seconds?: number | null;
  line_bytes_per_second?: number | null; utilisation_ratio?: number | null;
  bulk_bytes_per_second_max?: number;
  classes?: { name: string; sent_bytes: number; sent_compressed_bytes: number; repeated_frames: number; waiting_bytes: number }[];
  paths?: {
    listen: string; peer_address: string; heard: boolean; rtt_seconds: number | null; loss_ratio: number | null;
    last_heard_seconds: number | null;
  }[];
  log_rate: { bytes_per_second: number | null; wire_bytes_per_second: number | null };
  output: { held: number; delay_p50_seconds: number | null; delay_p99_seconds: number | null };
}

function LinkCard(props: { link: Link }): VNode {
  const { link } = props;
  const silent = (link.paths ?? []).filter((path) => !path.heard);
  const both = link.session_up && link.heartbeat_up;
  const none = !link.session_up && !link.heartbeat_up;
  const mood = both && silent.length === 0 ? "good" : none ? "bad" : "warning";
  const word = both ? (silent.length === 0 ? "Up" : "A path is silent") : none ? "Down" : link.session_up ? "No heartbeat" : "No logging channel";
  const fact = (name: string, text: string) => <div><dt>{name}</dt><dd>{text}</dd></div>;
  const ratio = link.log_rate.wire_bytes_per_second && link.log_rate.bytes_per_second
    ? `${format.digits(link.log_rate.bytes_per_second / link.log_rate.wire_bytes_per_second)} : 1` : format.kUnknown;
  return (
    <li class={`card link-card mood-${mood}`} key={`${link.pair}/${link.site}`}>
      <div class="link-head">
        <h2>{link.pair}</h2>
        <span class="link-way">{link.site} <Icon name="swap" /> {link.peer_site}</span>
        <Badge mood={mood} text={word} />
        <code class="muted">{link.peer_address}</code>
      </div>
      <dl class="facts">
        {fact("Round trip", format.seconds(link.rtt_seconds))}
        {fact("Jitter", format.seconds(link.jitter_seconds))}
        {fact("Loss", format.percent(link.loss_ratio))}
        {fact("Log", format.bytes(link.log_rate.bytes_per_second, true))}
        {fact("On the wire", format.bytes(link.log_rate.wire_bytes_per_second, true))}
        {fact("Compression", ratio)}
        {fact("Output delay p99", format.seconds(link.output.delay_p99_seconds))}
        {fact("Sending", format.bytes(link.sent_bytes_per_second ?? null, true))}
        {fact("Receiving", format.bytes(link.received_bytes_per_second ?? null, true))}
        {fact("Line, as measured", format.bytes(link.line_bytes_per_second ?? null, true))}
        {fact("Utilisation", format.percent(link.utilisation_ratio ?? null))}
        {fact("Clock offset", format.seconds(link.clock_offset_seconds ?? null))}
        {fact("Resync and seeding", link.bulk_bytes_per_second_max ? `up to ${format.bytes(link.bulk_bytes_per_second_max, true)}` : "no cap")}
        {(link.classes ?? []).filter((c) => c.sent_bytes > 0).map((c) =>
          fact(`Sent as ${c.name}`, `${format.bytes(c.sent_bytes)}, compressed ${format.bytes(c.sent_compressed_bytes)}`))}
        {fact("Sent again", format.count((link.classes ?? []).reduce((sum, c) => sum + c.repeated_frames, 0)))}
        {fact("Sent", format.bytes(link.sent_bytes))}
        {fact("Received", format.bytes(link.received_bytes))}
        {fact("Reconnects", format.count(link.reconnects))}
        {(link.paths ?? []).length < 2 ? null : link.paths!.map((path, index) =>
          fact(`Heartbeats, path ${index + 1}`, path.heard
            ? `${path.peer_address}: ${format.seconds(path.rtt_seconds)}, loss ${format.percent(path.loss_ratio)}`
            : `${path.peer_address}: silent${path.last_heard_seconds === null ? "" : ` for ${format.duration(path.last_heard_seconds)}`}`))}
        {fact("Last heard", link.last_heard_seconds === null ? format.kUnknown : `${format.seconds(link.last_heard_seconds)} ago`)}
      </dl>
    </li>
  );
}

export function LinksPage(props: { data: Page<Link> | null }): VNode {
  return (
    <main id="main" class="page" tabindex="-1">
      <div class="page-head"><h1>Links</h1></div>
      {!props.data ? <p class="loading">Asking the replicators…</p>
        : props.data.items.length === 0 ? <p class="muted quiet">No replicator on this host answers.</p>
        : <ul class="stack">{props.data.items.map((link) => <LinkCard link={link} />)}</ul>}
    </main>
  );
}
