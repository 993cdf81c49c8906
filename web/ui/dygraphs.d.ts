// What we use of dygraphs 2.2 (Debian's libjs-dygraphs).
declare module "dygraphs" {
  export interface Options {
    [name: string]: unknown;
  }
  export default class Dygraph {
    constructor(element: HTMLElement, data: unknown[][], options: Options);
    updateOptions(options: Options): void;
    setSelection(row: number | false): boolean;
    resize(): void;
    destroy(): void;
    static PLUGINS: unknown[];
    static Plugins: { Legend: unknown };
  }
}
