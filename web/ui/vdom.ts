// A small virtual DOM: h() describes, patch() changes the page to match. Function components are plain
// functions of their props; what lives longer than a drawing (charts) hangs on onmount/onupdate/onunmount.

export type Child = VNode | string | number | boolean | null | undefined | Child[];
type Hook = (element: HTMLElement) => void;
export interface Props {
  [name: string]: unknown;
  key?: string | number;
  class?: string;
  onmount?: Hook;
  onupdate?: Hook;
  onunmount?: Hook;
}
export interface VNode {
  tag: string;  // "" = text
  props: Props;
  children: VNode[];
  text: string;
  node?: Node;
}
type Component = (props: any) => VNode;

declare global {
  namespace JSX {
    type Element = VNode;
    interface ElementChildrenAttribute { children: {}; }
    interface IntrinsicElements { [tag: string]: any; }
  }
}

function flatten(children: Child[], out: VNode[]): VNode[] {
  for (const child of children) {
    if (child === null || child === undefined || typeof child === "boolean") continue;
    if (Array.isArray(child)) flatten(child, out);
    else if (typeof child === "object") {
      if (child.tag === "#fragment") flatten(child.children, out);
      else out.push(child);
    } else out.push({ tag: "", props: {}, children: [], text: String(child) });
  }
  return out;
}

export function h(tag: string | Component, props: Props | null, ...children: Child[]): VNode {
  if (typeof tag === "function") return tag({ ...(props ?? {}), children });
  return { tag, props: props ?? {}, children: flatten(children, []), text: "" };
}
export function Fragment(props: { children: Child[] }): VNode {
  return { tag: "#fragment", props: {}, children: flatten(props.children, []), text: "" };
}

const kSvg = "http://www.w3.org/2000/svg";
const kHooks = new Set(["key", "initial", "onmount", "onupdate", "onunmount"]);
// Set as properties: as attributes they would mean only the initial value.
const kProperties = new Set(["value", "checked", "disabled", "selected", "open"]);

function setProp(element: Element, name: string, value: unknown): void {
  if (kHooks.has(name)) return;
  if (name.startsWith("on")) {
    (element as any)[name] = value ?? null;
  } else if (kProperties.has(name)) {
    (element as any)[name] = value ?? (name === "value" ? "" : false);
  } else if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

function create(vnode: VNode, svg: boolean): Node {
  if (vnode.tag === "") return (vnode.node = document.createTextNode(vnode.text));
  const inSvg = svg || vnode.tag === "svg";
  const element = inSvg ? document.createElementNS(kSvg, vnode.tag) : document.createElement(vnode.tag);
  vnode.node = element;
  for (const child of vnode.children) element.appendChild(create(child, inSvg));
  for (const name in vnode.props) setProp(element, name, vnode.props[name]);
  // What a field starts with; from then on it is the user's.
  if (vnode.props.initial !== undefined) (element as any).value = vnode.props.initial;
  const mount = vnode.props.onmount;
  if (mount) queueMicrotask(() => mount(element as HTMLElement));
  return element;
}

function destroy(vnode: VNode): void {
  for (const child of vnode.children) destroy(child);
  vnode.props.onunmount?.(vnode.node as HTMLElement);
}

function same(a: VNode, b: VNode): boolean {
  return a.tag === b.tag && a.props.key === b.props.key;
}

function patchChildren(parent: Node, before: VNode[], after: VNode[], svg: boolean): void {
  const keyed = new Map<string | number, VNode>();
  for (const child of before) if (child.props.key !== undefined) keyed.set(child.props.key, child);
  const used = new Set<VNode>();
  let next = 0;
  let cursor: Node | null = parent.firstChild;
  for (const child of after) {
    let old: VNode | undefined;
    if (child.props.key !== undefined) {
      const found = keyed.get(child.props.key);
      if (found && found.tag === child.tag) old = found;
    } else {
      while (next < before.length && (used.has(before[next]) || before[next].props.key !== undefined)) ++next;
      if (next < before.length && same(before[next], child)) old = before[next++];
    }
    let node: Node;
    if (old) {
      used.add(old);
      patch(old, child, svg);
      node = child.node!;
    } else {
      node = create(child, svg);
    }
    if (node === cursor) cursor = cursor!.nextSibling;
    else parent.insertBefore(node, cursor);
  }
  for (const child of before) {
    if (used.has(child)) continue;
    destroy(child);
    parent.removeChild(child.node!);
  }
}

export function patch(before: VNode, after: VNode, svg = false): void {
  const node = before.node!;
  after.node = node;
  if (after.tag === "") {
    if (before.text !== after.text) node.nodeValue = after.text;
    return;
  }
  const element = node as Element;
  for (const name in before.props) {
    if (!(name in after.props)) setProp(element, name, undefined);
  }
  for (const name in after.props) {
    if (kProperties.has(name) || before.props[name] !== after.props[name]) {
      setProp(element, name, after.props[name]);
    }
  }
  patchChildren(element, before.children, after.children, svg || after.tag === "svg");
  after.props.onupdate?.(element as HTMLElement);
}

export class Root {
  private shown: VNode = { tag: "div", props: {}, children: [], text: "" };
  private due = false;
  constructor(container: HTMLElement, private readonly view: () => VNode) {
    this.shown.node = container;
  }
  draw(): void {
    this.due = false;
    const wanted: VNode = { tag: "div", props: {}, children: [this.view()], text: "" };
    patch(this.shown, wanted);
    this.shown = wanted;
  }
  schedule(): void {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => this.draw());
  }
}
