// Icons, drawn here: each mood has its own shape, so that no state is told by colour alone.
import { h, VNode } from "./vdom";
import { Mood } from "./api";

const kPaths: { [name: string]: string } = {
  good: "M12 2.5 4.5 5.4v5.8c0 4.7 3.1 8.6 7.5 10.3 4.4-1.7 7.5-5.6 7.5-10.3V5.4zM8.3 11.9l2.7 2.7 4.9-5",
  busy: "M20 11a8 8 0 0 0-14.3-4.1M4 13a8 8 0 0 0 14.3 4.1M5.2 3v4.2h4.2M18.8 21v-4.2h-4.2",
  warning: "M12 3.2 1.9 20.5h20.2zM12 9.5v5M12 17.6v.2",
  bad: "M8 2.6h8L21.4 8v8L16 21.4H8L2.6 16V8zM8.8 8.8l6.4 6.4M15.2 8.8l-6.4 6.4",
  unknown: "M12 2.6a9.4 9.4 0 1 0 0 18.8 9.4 9.4 0 0 0 0-18.8M9.2 9.2c.3-3.4 5.7-3.3 5.7 0 0 2.1-2.9 2.3-2.9 4.6M12 17.2v.2",
  info: "M12 2.6a9.4 9.4 0 1 0 0 18.8 9.4 9.4 0 0 0 0-18.8M12 11v5.6M12 7.4v.2",
  error: "M8 2.6h8L21.4 8v8L16 21.4H8L2.6 16V8zM12 7v6M12 16.4v.2",
  server: "M4 4.5h16v6H4zM4 13.5h16v6H4zM7.2 7.5h.2M7.2 16.5h.2M11 7.5h5.5M11 16.5h5.5",
  balance: "M12 3.5v17M7 20.5h10M5 7h14M5 7l-3 7h6zM19 7l-3 7h6z",
  sun: "M12 7.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M12 1.8v2.4M12 19.8v2.4M1.8 12h2.4M19.8 12h2.4M4.8 4.8l1.7 1.7M17.5 17.5l1.7 1.7M19.2 4.8l-1.7 1.7M6.5 17.5l-1.7 1.7",
  moon: "M20.5 14.2A8.9 8.9 0 0 1 9.8 3.5a8.9 8.9 0 1 0 10.7 10.7",
  auto: "M12 2.6a9.4 9.4 0 1 0 0 18.8 9.4 9.4 0 0 0 0-18.8M12 2.6v18.8M12 7h6.5M12 12h9M12 17h6.5",
  chevron: "M9 5l7 7-7 7",
  disk: "M4 6.2C4 3.3 20 3.3 20 6.2s-16 2.9-16 0v11.6c0 2.9 16 2.9 16 0V6.2M4 12c0 2.9 16 2.9 16 0",
  terminal: "M3 4.5h18v15H3zM6.5 9l3.2 3-3.2 3M12 15.2h5",
  pulse: "M2.5 12h4l2.6-7 4.6 14 2.8-7h5",
  user: "M12 3.5a4.2 4.2 0 1 0 0 8.4 4.2 4.2 0 0 0 0-8.4M3.8 20.5c1-4.2 4.2-5.9 8.2-5.9s7.2 1.7 8.2 5.9",
  key: "M8 10.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M11.3 11.8 20 3.2M15.5 7.6l3.2 3.2",
  down: "M6 9.5l6 6 6-6",
  play: "M7 4.5v15l12-7.5z",
  swap: "M4 8.5h15M15 4.5l4 4-4 4M20 15.5H5M9 11.5l-4 4 4 4",
};

export function Icon(props: { name: string; class?: string; label?: string }): VNode {
  return (
    <svg class={`icon ${props.class ?? ""}`} viewBox="0 0 24 24" fill="none" stroke="currentColor"
         stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"
         aria-hidden={props.label ? undefined : "true"} role={props.label ? "img" : undefined}
         aria-label={props.label}>
      <path d={kPaths[props.name] ?? kPaths.unknown} />
    </svg>
  );
}

export function MoodIcon(props: { mood: Mood; class?: string }): VNode {
  return <Icon name={props.mood} class={`mood-icon ${props.class ?? ""}`} />;
}

// A word with its mood's shape and colour.
export function Badge(props: { mood: Mood; text: string }): VNode {
  return (
    <span class={`badge mood-${props.mood}`}>
      <MoodIcon mood={props.mood} />{props.text}
    </span>
  );
}

export function Mark(): VNode {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
      <circle cx="16" cy="16" r="13" fill="none" stroke="currentColor" stroke-width="2.4" />
      <path d="M16 3a13 13 0 0 1 0 26z" fill="currentColor" />
      <circle cx="10.5" cy="16" r="2.4" fill="currentColor" />
      <circle class="mark-hole" cx="21.5" cy="16" r="2.4" />
    </svg>
  );
}
