// Long actions on their way, and how the last ones ended.
import { send, Task } from "./api";
import { actionLabel } from "./actions";
import { Icon } from "./icons";
import { may, nowUnixMs, store } from "./store";
import { h, VNode } from "./vdom";
import * as format from "./format";

const kMood: { [state: string]: string } = { running: "busy", succeeded: "good", failed: "bad", cancelled: "unknown" };

export function addTask(task: Task): void {
  const at = store.tasks.findIndex((known) => known.id === task.id);
  if (at >= 0) store.tasks[at] = task;
  else store.tasks.push(task);
  store.tasks.sort((a, b) => b.number - a.number);
  if (store.tasks.length > 200) store.tasks.length = 200;
}

function cancel(task: Task): void {
  send("POST", `/api/v1/tasks/${task.id}/cancel`).catch(() => { /* its state says how it went */ });
}

function TaskRow(props: { task: Task; showPair: boolean }): VNode {
  const { task } = props;
  const mood = kMood[task.state] ?? "unknown";
  const running = task.state === "running";
  const took = ((task.ended_unix_ms ?? nowUnixMs()) - task.created_unix_ms) / 1000;
  return (
    <li class={`task mood-${mood}`} key={task.id}>
      <Icon name={mood} class="mood-icon" label={task.state} />
      <div class="task-body">
        <div class="task-head">
          <b>{actionLabel(task.action)}</b>
          {props.showPair ? <span class="muted">{task.pair}</span> : null}
          <span class="muted">{format.title(task.state)}</span>
          <span class="muted task-time" title={format.dateTime(task.created_unix_ms)}>
            {format.moment(task.created_unix_ms)}, {running ? `for ${format.duration(took)}` : `took ${format.seconds(Math.max(0, took))}`}
          </span>
        </div>
        <p>{format.sentence(task.text)}</p>
        {running ? (
          <div class="task-progress">
            <progress max="1" value={task.progress_ratio ?? undefined} aria-label={`${task.action} progress`} />
            {may("drill") ? <button class="button small" onclick={() => cancel(task)}>Cancel</button> : null}
          </div>
        ) : null}
        <p class="muted task-actor">by {task.actor}, at {task.site}</p>
      </div>
    </li>
  );
}

export function TaskList(props: { tasks: Task[]; showPair: boolean; empty: string }): VNode {
  if (props.tasks.length === 0) return <p class="muted quiet">{props.empty}</p>;
  return <ul class="tasks">{props.tasks.map((task) => <TaskRow task={task} showPair={props.showPair} />)}</ul>;
}

// In the header: how many run.
export function RunningTasks(): VNode | null {
  const running = store.tasks.filter((task) => task.state === "running");
  if (running.length === 0) return null;
  return (
    <span class="running-tasks mood-busy" role="status">
      <Icon name="busy" class="spin" />{running.length === 1 ? `${actionLabel(running[0].action)} ${running[0].pair}`
                                                             : `${running.length} tasks`}
    </span>
  );
}
