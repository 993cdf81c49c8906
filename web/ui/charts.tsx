// Live charts over dygraphs: one Chart is one card. All charts of a page share the time window and the
// hovered moment, so that a spike in one can be read in the others.
import Dygraph from "dygraphs";
import { h, VNode } from "./vdom";
import { History, Status } from "./api";
import * as format from "./format";

// dygraphs' own legend sets a style attribute, which our content security policy forbids; we show the
// values ourselves.
Dygraph.PLUGINS = Dygraph.PLUGINS.filter((plugin) => plugin !== Dygraph.Plugins.Legend);

const kKept = 15 * 60;
const kColumns = [
  "lag_seconds", "lag_bytes", "log_bytes_per_second", "wire_bytes_per_second", "log_entries_per_second",
  "rtt_seconds", "jitter_seconds", "loss_ratio", "output_delay_p50_seconds", "output_delay_p99_seconds",
  "outputs_held", "exits_per_second", "throttle_ratio",
] as const;
export type Column = typeof kColumns[number];
export type Point = { time: number } & { [name in Column]: number | null };

// The samples of the pair that is being looked at.
export class Series {
  points: Point[] = [];
  revision = 0;

  load(history: History): void {
    const place = new Map(history.columns.map((name, index) => [name, index]));
    this.points = history.rows.map((row) => {
      const point: any = { time: row[0] };
      for (const name of kColumns) {
        const index = place.get(name);
        point[name] = index === undefined ? null : row[index];
      }
      return point;
    });
    ++this.revision;
  }

  add(status: Status): void {
    const last = this.points[this.points.length - 1];
    if (last && last.time >= status.time_unix_ms) return;
    this.points.push({
      time: status.time_unix_ms,
      lag_seconds: status.execution_lag.seconds,
      lag_bytes: status.execution_lag.bytes,
      log_bytes_per_second: status.log_rate.bytes_per_second,
      wire_bytes_per_second: status.log_rate.wire_bytes_per_second,
      log_entries_per_second: status.log_rate.entries_per_second,
      rtt_seconds: status.link.rtt_seconds,
      jitter_seconds: status.link.jitter_seconds,
      loss_ratio: status.link.loss_ratio,
      output_delay_p50_seconds: status.output.delay_p50_seconds,
      output_delay_p99_seconds: status.output.delay_p99_seconds,
      outputs_held: status.output.held,
      exits_per_second: status.execution.exits_per_second,
      throttle_ratio: status.execution.throttle_ratio,
    });
    if (this.points.length > kKept) this.points.splice(0, this.points.length - kKept);
    ++this.revision;
  }

  clear(): void {
    this.points = [];
    ++this.revision;
  }
}

export interface Line { of: (point: Point) => number | null; label: string; tone: "one" | "two"; }
export function column(name: Column): (point: Point) => number | null {
  return (point) => point[name];
}
export interface ChartSpec {
  id: string;
  title: string;
  hint: string;
  lines: Line[];
  value: (value: number | null) => string;
  floor: number;  // the axis shows at least this much, so that noise does not look like news
}

export interface ChartView { series: Series; windowSeconds: number; theme: string; }

interface Live {
  graph: Dygraph | null;
  revision: number;
  theme: string;
  windowSeconds: number;
  rows: unknown[][];
}
const live = new Map<HTMLElement, Live>();
let hovered: number | null = null;
let onHover: () => void = () => {};

export function setHoverListener(listener: () => void): void {
  onHover = listener;
}
export function hoveredTime(): number | null {
  return hovered;
}

function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// A second without a sample is a gap in the line, not a bridge over it.
function rowsOf(spec: ChartSpec, view: ChartView): unknown[][] {
  const points = view.series.points;
  const end = points.length ? points[points.length - 1].time : Date.now();
  const begin = end - view.windowSeconds * 1000;
  const rows: unknown[][] = [];
  let last = 0;
  for (const point of points) {
    if (point.time < begin) continue;
    if (last && point.time - last > 3500) rows.push([new Date(last + 1000), ...spec.lines.map(() => null)]);
    rows.push([new Date(point.time), ...spec.lines.map((line) => line.of(point))]);
    last = point.time;
  }
  if (rows.length === 0) rows.push([new Date(end), ...spec.lines.map(() => null)]);
  return rows;
}

function highest(rows: unknown[][]): number {
  let most = 0;
  for (const row of rows) {
    for (let i = 1; i < row.length; ++i) most = Math.max(most, (row[i] as number | null) ?? 0);
  }
  return most;
}

// A round number just above, so that the axis does not breathe with every sample.
function roundUp(value: number): number {
  const scale = Math.pow(10, Math.floor(Math.log10(value)));
  for (const step of [1, 1.5, 2, 3, 4, 5, 6, 8, 10]) {
    if (value <= step * scale) return step * scale;
  }
  return value;
}

function graphOptions(spec: ChartSpec, view: ChartView, rows: unknown[][]): { [name: string]: unknown } {
  const end = (rows[rows.length - 1][0] as Date).getTime();
  const most = roundUp(Math.max(highest(rows) * 1.1, spec.floor));
  return {
    labels: ["time", ...spec.lines.map((line) => line.label)],
    dateWindow: [end - view.windowSeconds * 1000, end],
    valueRange: [0, most],
    colors: spec.lines.map((line) => css(`--chart-${line.tone}`)),
    axisLineColor: css("--line"),
    gridLineColor: css("--grid"),
  };
}

function rowAt(rows: unknown[][], time: number): number {
  let best = -1;
  let distance = 5000;
  rows.forEach((row, index) => {
    const away = Math.abs((row[0] as Date).getTime() - time);
    if (away < distance) {
      distance = away;
      best = index;
    }
  });
  return best;
}

function mount(element: HTMLElement, spec: ChartSpec, view: ChartView): void {
  const rows = rowsOf(spec, view);
  const state: Live = { graph: null, revision: view.series.revision, theme: view.theme,
                        windowSeconds: view.windowSeconds, rows };
  state.graph = new Dygraph(element, rows, {
    ...graphOptions(spec, view, rows),
    legend: "never",
    strokeWidth: 1.6,
    fillGraph: spec.lines.length === 1,
    fillAlpha: 0.14,
    connectSeparatedPoints: false,
    interactionModel: {},
    axisLabelFontSize: 11,
    rightGap: 4,
    highlightCircleSize: 3.5,
    axes: {
      x: {
        pixelsPerLabel: 52, drawGrid: false,
        axisLabelFormatter: (value: Date) => format.clock(value.getTime()).slice(0, value.getSeconds() ? 8 : 5),
      },
      y: { pixelsPerLabel: 34, axisLabelWidth: 56,
           axisLabelFormatter: (value: number) => (value === 0 ? "0" : spec.value(value)) },
    },
    highlightCallback: (_event: unknown, time: number) => {
      hovered = time;
      follow();
      onHover();
    },
    unhighlightCallback: () => {
      hovered = null;
      follow();
      onHover();
    },
  });
  live.set(element, state);
}

function follow(): void {
  for (const state of live.values()) {
    const row = hovered === null ? -1 : rowAt(state.rows, hovered);
    state.graph!.setSelection(row < 0 ? false : row);
  }
}

function update(element: HTMLElement, spec: ChartSpec, view: ChartView): void {
  const state = live.get(element);
  if (!state || !state.graph) return;
  const moved = state.revision !== view.series.revision || state.windowSeconds !== view.windowSeconds;
  if (!moved && state.theme === view.theme) return;
  const rows = rowsOf(spec, view);
  state.rows = rows;
  state.revision = view.series.revision;
  state.theme = view.theme;
  state.windowSeconds = view.windowSeconds;
  state.graph.updateOptions({ file: rows, ...graphOptions(spec, view, rows) });
  if (hovered !== null) follow();
}

function unmount(element: HTMLElement): void {
  live.get(element)?.graph?.destroy();
  live.delete(element);
}

// The value to show: at the hovered moment, else the newest.
function shown(view: ChartView, line: Line): number | null {
  const points = view.series.points;
  if (points.length === 0) return null;
  if (hovered === null) return line.of(points[points.length - 1]);
  let best = points[0];
  for (const point of points) {
    if (Math.abs(point.time - hovered) < Math.abs(best.time - hovered)) best = point;
  }
  return line.of(best);
}

export function Chart(props: { spec: ChartSpec; view: ChartView }): VNode {
  const { spec, view } = props;
  const readings = spec.lines.map((line) => `${line.label} ${spec.value(shown(view, line))}`);
  const measured = view.series.points.some((point) => spec.lines.some((line) => line.of(point) !== null));
  return (
    <figure class={`card chart ${measured ? "" : "unmeasured"}`} key={spec.id}>
      <figcaption>
        <h3 title={spec.hint}>{spec.title}</h3>
        <div class="readings">
          {spec.lines.map((line) => (
            <span class={`reading tone-${line.tone}`}>
              {spec.lines.length > 1 ? <span class="reading-label">{line.label}</span> : null}
              <b>{spec.value(shown(view, line))}</b>
            </span>
          ))}
        </div>
      </figcaption>
      <div class="plot" role="img" aria-label={`${spec.title}: ${readings.join(", ")}`}
           onmount={(element: HTMLElement) => mount(element, spec, view)}
           onupdate={(element: HTMLElement) => update(element, spec, view)}
           onunmount={unmount} />
      {measured ? null : <p class="no-data">not measured here</p>}
    </figure>
  );
}

// A line without axes, for tables.
export function Sparkline(props: { values: (number | null)[]; label: string }): VNode {
  const most = Math.max(...props.values.map((value) => value ?? 0), 1e-9);
  const step = 96 / Math.max(1, props.values.length - 1);
  let path = "";
  let pen = "M";
  props.values.forEach((value, index) => {
    if (value === null) {
      pen = "M";
      return;
    }
    path += `${pen}${(2 + index * step).toFixed(1)} ${(22 - (value / most) * 18).toFixed(1)}`;
    pen = "L";
  });
  return (
    <svg class="sparkline" viewBox="0 0 100 24" role="img" aria-label={props.label}>
      <path d={path || "M0 0"} />
    </svg>
  );
}
