// A modal dialog: the browser's own, which keeps the focus inside and closes on Escape.
import { Child, h, VNode } from "./vdom";

export function Dialog(props: { label: string; close: () => void; children?: Child }): VNode {
  return (
    <dialog class="dialog" aria-label={props.label}
            onmount={(element: HTMLElement) => (element as HTMLDialogElement).showModal()}
            oncancel={(event: Event) => { event.preventDefault(); props.close(); }}>
      {props.children}
    </dialog>
  );
}

export function Field(props: { key?: string; label: string; hint?: string; children?: Child }): VNode {
  return (
    <label class="field" key={props.key}>
      <span class="field-label">{props.label}</span>
      {props.children}
      {props.hint ? <span class="field-hint">{props.hint}</span> : null}
    </label>
  );
}

export function value(event: Event): string {
  return (event.target as HTMLInputElement).value;
}
