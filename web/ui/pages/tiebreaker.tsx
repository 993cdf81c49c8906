// The tiebreaker as each pair's sites see it, and the record that decides who may go on.
import { h, VNode } from "../vdom";
import { Member, Page } from "../api";
import { Badge, Icon } from "../icons";
import { EventList } from "./events";
import { store } from "../store";
import * as format from "../format";

export interface TiebreakerView {
  pair: string; site: string; reachable: boolean; address: string; text: string; last_answer_seconds: number | null;
  rtt_seconds: number | null;
  record: { mode: string; epoch: number; holder: string; members: Member[] } | null;
}

function recordSays(view: TiebreakerView): string {
  const record = view.record;
  if (!record) return "no record known";
  if (record.mode === "solo") return `solo: ${record.holder} alone may go on`;
  if (record.mode === "paired") return `paired: either of ${record.members.map((member) => member.site).join(" and ")} may ask`;
  return "not enrolled";
}

export function TiebreakerPage(props: { data: Page<TiebreakerView> | null }): VNode {
  const items = props.data?.items ?? [];
  const lost = items.filter((item) => !item.reachable).length;
  const mood = !props.data || items.length === 0 ? "unknown" : lost === 0 ? "good" : "warning";
  const codes = ["tiebreaker_connected", "tiebreaker_lost", "tiebreaker_refused", "acquire_asked", "acquire_won",
                 "acquire_denied", "paired", "forced"];
  const events = store.events.filter((event) => codes.includes(event.code)).slice(0, 20);
  return (
    <main id="main" class="page" tabindex="-1">
      <section class={`banner mood-${mood}`}>
        <Icon name={mood} class="banner-icon mood-icon" />
        <div class="banner-text">
          <h1>{mood === "good" ? "Tiebreaker reachable" : mood === "unknown" ? "Tiebreaker not known" : "Tiebreaker not reachable"}</h1>
          <p>{lost > 0 ? `${lost} of ${items.length} replicators get no answer. Both sites go on as they are; neither could take over now.`
             : "Each pair asks it, once and durably, who may go on when its sites lose sight of each other."}</p>
        </div>
      </section>
      <section class="card">
        <h2><Icon name="balance" />Records</h2>
        <div class="scroll">
          <table>
            <thead><tr><th>VM</th><th>Asked by</th><th>Answer</th><th>Record</th><th class="num">Epoch</th><th class="num">RTT</th>
                       <th class="num">Last answer</th></tr></thead>
            <tbody>
              {items.map((item) => (
                <tr key={`${item.pair}/${item.site}`}>
                  <td><b>{item.pair}</b></td>
                  <td>{item.site}</td>
                  <td>
                    <Badge mood={item.reachable ? "good" : "warning"} text={item.reachable ? "Answers" : "No answer"} />
                    {item.text ? <div class="muted">{item.text}</div> : null}
                  </td>
                  <td>
                    {format.sentence(recordSays(item))}
                    <div class="members">
                      {(item.record?.members ?? []).map((member) => (
                        <span title={`incarnation ${member.incarnation}`}>{member.site} <code>{member.incarnation.slice(0, 8)}</code></span>
                      ))}
                    </div>
                  </td>
                  <td class="num">{item.record ? item.record.epoch : format.kUnknown}</td>
                  <td class="num">{format.seconds(item.rtt_seconds)}</td>
                  <td class="num">{item.last_answer_seconds === null ? format.kUnknown : `${format.seconds(item.last_answer_seconds)} ago`}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </section>
      <section class="card">
        <h2><Icon name="info" />Decisions and losses</h2>
        <EventList events={events} showPair={true} />
      </section>
    </main>
  );
}
