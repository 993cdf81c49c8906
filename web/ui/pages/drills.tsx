// Rehearsals: start one, follow it, and see how the last ones ended.
import { h, VNode } from "../vdom";
import { Actions } from "../actions";
import { Icon } from "../icons";
import { may, store } from "../store";
import { TaskList } from "../tasks";

const kDrillActions = ["drill_start", "inject_fault"];

export function DrillsPage(props: { actions: Actions }): VNode {
  const drills = store.tasks.filter((task) => kDrillActions.includes(task.action));
  const pairs = store.overview?.items ?? [];
  const allowed = may("drill") && store.session?.via !== "loopback";
  return (
    <main id="main" class="page" tabindex="-1">
      <div class="page-head"><h1>Drills</h1></div>
      <section class="card">
        <h2><Icon name="play" />Start one</h2>
        {!allowed ? <p class="muted quiet">Starting a drill needs a login with the right to.</p>
          : pairs.length === 0 ? <p class="muted quiet">There is no VM to drill.</p> : (
          <ul class="drill-list">
            {pairs.map((pair) => (
              <li key={pair.name}>
                <b>{pair.name}</b>
                <span class="muted">{pair.word === "protected" ? "protection stays on throughout" : `${pair.word}: not now`}</span>
                <span class="drill-buttons">
                  <button class="button" onclick={() => props.actions.open("drill_start", pair.name)}>Isolated drill…</button>
                  <button class="button" onclick={() => props.actions.open("switchover", pair.name)}
                          disabled={!may("operate")}>Switchover…</button>
                  <button class="button danger-text" onclick={() => props.actions.open("inject_fault", pair.name)}>Fault…</button>
                </span>
              </li>
            ))}
          </ul>
        )}
      </section>
      <section class="card">
        <h2><Icon name="pulse" />Past drills</h2>
        <TaskList tasks={drills} showPair={true} empty="No drill has been run from this site." />
      </section>
    </main>
  );
}
