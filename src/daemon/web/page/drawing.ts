// The lab as a picture, by cytoscape. Nothing in it moves by itself. What the picture
// says, the lists say too: for who does not see it, it is one image with a name.

import cytoscape from "cytoscape";
import { type SimulationLinkDatum, type SimulationNodeDatum, forceCollide, forceLink, forceManyBody, forceSimulation, forceX, forceY } from "d3-force";
import { type Edge, type Graph, type Rate, type Vertex, bits, name, pair, speed, stateWords } from "./lab";

/** Forces between each two take the square of their number. */
const BY_FORCES_MAX = 120;

/** How many steps of how many things are simulated, at most. */
const STEPS_MAX = 300_000;

/** How long it is simulated before others have their turn. */
const SLICE_MS = 20;

interface Point extends SimulationNodeDatum {
  id: string;
  room: number;
}

const SHAPES = { node: "round-rectangle", switch: "rectangle", nic: "diamond", remote: "hexagon" } as const;

/** How names are written. */
const LETTERS = 13;
const FONT = "system-ui, sans-serif";
const ruler = document.createElement("canvas").getContext("2d") as CanvasRenderingContext2D;
ruler.font = `bold ${LETTERS}px ${FONT}`;

export class Drawing {
  private readonly cy: cytoscape.Core;
  private lab = "";
  private line = 1;
  private arranged = 0;
  private rates = new Map<string, Rate>();

  /** Draws into a box; `choose` is called with the id of what is clicked. */
  constructor(private readonly box: HTMLElement, choose: (id: string) => void) {
    this.cy = cytoscape({ container: box, minZoom: 0.01, maxZoom: 4, style: style(this.line) });
    this.cy.on("tap", "node, edge", (event) => choose(event.target.id() as string));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.cy.style(style(this.line)));
    // From afar, lines are not to be thinner than can be seen.
    this.cy.on("zoom", () => {
      const line = Math.max(1, 2 ** Math.round(Math.log2(0.4 / this.cy.zoom())));
      if (line !== this.line) this.cy.style(style((this.line = line)));
    });
  }

  /** Shows a lab. What is there already stays where it is. */
  show(graph: Graph): void {
    const fresh = graph.lab !== this.lab;
    this.lab = graph.lab;
    const wanted: cytoscape.ElementDefinition[] = [];
    this.cy.batch(() => {
      if (fresh) this.cy.elements().remove();
      const known = new Set([...graph.nodes, ...graph.edges].map((it) => it.id));
      this.cy.elements().filter((it) => !known.has(it.id())).remove();
      for (const vertex of graph.nodes) {
        const there = this.cy.getElementById(vertex.id);
        if (there.nonempty()) there.data(ofVertex(vertex));
        else wanted.push({ group: "nodes", data: ofVertex(vertex) });
      }
      const twins = counts(graph);
      for (const edge of graph.edges) {
        const there = this.cy.getElementById(edge.id);
        if (there.nonempty()) there.data(this.ofEdge(edge, twins));
        // What joins nothing that is known is not drawn; the lists have it.
        else if (edge.ends.every((end) => known.has(end.node))) {
          wanted.push({ group: "edges", data: this.ofEdge(edge, twins) });
        }
      }
    });
    const added = this.cy.add(wanted);
    // Of a lab that has come in parts most has no place yet.
    if (fresh || added.nodes().length * 2 > this.cy.nodes().length) this.arrange();
    else this.place(added);
    this.box.setAttribute("aria-label", described(graph));
  }

  /** Writes beside each link how fast it is. */
  flow(rates: Rate[]): void {
    this.rates = new Map(rates.map((rate) => [pair(...rate.ends), rate]));
    this.cy.batch(() => {
      for (const it of this.cy.edges().toArray()) {
        const [edge, title, old] = [it.data("edge") as Edge, it.data("title") as string, it.data("label") as string];
        const label = this.label(edge, title);
        // What is written anew is drawn anew.
        if (label !== old) it.data("label", label);
      }
    });
  }

  choose(id: string | null): void {
    this.cy.elements(":selected").unselect();
    if (id !== null) this.cy.getElementById(id).select();
  }

  zoom(by: number): void {
    const middle = { x: this.cy.width() / 2, y: this.cy.height() / 2 };
    this.cy.zoom({ level: this.cy.zoom() * by, renderedPosition: middle });
  }

  whole(): void {
    this.cy.resize();
    this.cy.fit(undefined, 30);
    if (this.cy.zoom() > 1.5) {
      this.cy.zoom(1.5);
      this.cy.center();
    }
  }

  /** Places all anew, the same way each time. */
  arrange(): void {
    this.arranged++;
    this.box.ariaBusy = "false";
    if (this.cy.nodes().length <= BY_FORCES_MAX) this.byForces();
    else this.bySimulation();
    this.whole();
  }

  private byForces(): void {
    const degree = (it: cytoscape.NodeSingular) => it.degree(false);
    const rings = { name: "concentric", animate: false, minNodeSpacing: 24, concentric: degree, levelWidth: () => 2 };
    this.cy.layout(rings as cytoscape.LayoutOptions).run();
    const forces = {
      name: "cose", animate: false, randomize: false, idealEdgeLength: () => 90, nodeRepulsion: () => 400000,
      nodeOverlap: 20, gravity: 0.4, numIter: 800, componentSpacing: 80,
    };
    this.cy.layout(forces as cytoscape.LayoutOptions).run();
  }

  /** Places many: forces between far things are taken together. Who looks at the page
  is not kept waiting for it. */
  private bySimulation(): void {
    const nodes = this.cy.nodes().toArray() as cytoscape.NodeSingular[];
    const points = nodes.map((node) => ({ id: node.id(), room: Math.hypot(node.data("width") as number, node.data("height") as number) / 2 }) as Point);
    const joints = this.cy.edges().map((edge) => ({ source: edge.source().id(), target: edge.target().id() }));
    const steps = Math.round(Math.min(300, Math.max(40, STEPS_MAX / points.length)));
    const simulation = forceSimulation(points)
      .alphaDecay(1 - 0.001 ** (1 / steps))
      .force("joints", forceLink<Point, SimulationLinkDatum<Point>>(joints).id((point) => point.id).distance(60))
      .force("apart", forceManyBody().strength(-150).distanceMax(2000))
      .force("room", forceCollide<Point>((point) => point.room + 2).iterations(3))
      .force("x", forceX().strength(0.03))
      .force("y", forceY().strength(0.03))
      .stop();
    const place = () => {
      this.cy.batch(() => {
        for (const [at, point] of points.entries()) nodes[at]?.position({ x: point.x ?? 0, y: point.y ?? 0 });
      });
      this.whole();
    };
    const { arranged } = this;
    let left = steps;
    const goOn = () => {
      // Something else is drawn by now.
      if (arranged !== this.arranged) return;
      for (const end = performance.now() + SLICE_MS; left > 0 && performance.now() < end; left--) simulation.tick();
      if (left > 0) setTimeout(goOn);
      else {
        place();
        this.box.ariaBusy = "false";
      }
    };
    this.box.ariaBusy = "true";
    place();
    goOn();
  }

  /** Puts new things beside what they hang on. */
  private place(added: cytoscape.CollectionReturnValue): void {
    added.nodes().forEach((node, number) => {
      const [beside] = node.neighborhood().nodes().difference(added).toArray() as cytoscape.NodeSingular[];
      const at = beside?.position() ?? { x: 0, y: 0 };
      node.position(around(at, 90, number));
    });
    if (added.nodes().nonempty()) this.whole();
  }

  private ofEdge(edge: Edge, twins: Map<string, number>): object {
    const [source, target] = edge.ends.map((end) => end.node);
    const beside = (twins.get(between(edge)) ?? 0) > 1;
    const title = beside ? which(edge) : "";
    return { id: edge.id, source, target, state: edge.state, edge, title, beside, label: this.label(edge, title) };
  }

  private label(edge: Edge, title: string): string {
    const said = [title, ...edge.notes].filter(Boolean);
    if (edge.state !== "up" && edge.state !== "wanted") said.unshift(stateWords(edge.state).toUpperCase());
    const rate = speed(edge, this.rates);
    if (rate && rate[0] + rate[1] >= 1) said.push(rate.map((way) => `${bits(way)}bit/s`.replace(/(\d)bit/, "$1 bit")).join(" / "));
    return said.join("\n");
  }
}

/** The two things that an edge joins. */
function between(edge: Edge): string {
  return pair(edge.ends[0].node, edge.ends[1].node);
}

/** How many edges there are between the same two things. */
function counts(graph: Graph): Map<string, number> {
  const twins = new Map<string, number>();
  for (const edge of graph.edges) twins.set(between(edge), (twins.get(between(edge)) ?? 0) + 1);
  return twins;
}

/** What tells an edge from those beside it: its interfaces, or its number. */
function which(edge: Edge): string {
  const interfaces = edge.ends.map((end) => end.interface).filter((it) => it !== null);
  return interfaces.length > 0 ? [...new Set(interfaces)].join(" -- ") : `#${edge.number}`;
}

/** A place beside another: turned by the golden angle, no two lie in one direction. */
function around(at: cytoscape.Position, away: number, number: number): cytoscape.Position {
  const turn = number * Math.PI * (3 - Math.sqrt(5));
  return { x: at.x + away * Math.cos(turn), y: at.y + away * Math.sin(turn) };
}

function ofVertex(vertex: Vertex): object {
  const well = vertex.state === "up" || vertex.state === "wanted";
  const label = well ? vertex.name : `${vertex.name}\n${stateWords(vertex.state).toUpperCase()}`;
  const lines = label.split("\n");
  // The corners of diamonds and hexagons have no room for letters.
  const margin = vertex.kind === "node" || vertex.kind === "switch" ? 20 : 60;
  const width = Math.max(...lines.map((line) => ruler.measureText(line).width)) + margin;
  const height = lines.length * LETTERS * 1.3 + margin;
  return { id: vertex.id, label, width, height, shape: SHAPES[vertex.kind], kind: vertex.kind, state: vertex.state };
}

/** The picture in a sentence. */
function described(graph: Graph): string {
  const count = (kind: Vertex["kind"]) => graph.nodes.filter((it) => it.kind === kind).length;
  const odd = [
    ...graph.nodes.filter((it) => it.state !== "up").map((it) => `${it.name} ${stateWords(it.state)}`),
    ...graph.edges.filter((it) => it.state !== "up").map((it) => `${name(it)} ${stateWords(it.state)}`),
  ];
  const more = odd.length > 5 ? `, and ${odd.length - 5} more` : "";
  const told = odd.length === 0 ? "all up" : odd.slice(0, 5).join(", ") + more;
  return `Lab ${graph.lab}: ${count("node")} nodes, ${count("switch")} switches, ${graph.edges.length} links; ${told}. The lists below say the same.`;
}

/** How all looks, with lines that are so many times as wide as from near by. */
function style(wide: number): cytoscape.StylesheetJson {
  const colours = getComputedStyle(document.documentElement);
  const colour = (name: string) => colours.getPropertyValue(`--${name}`).trim();
  const [ground, raised, text, line] = ["ground", "raised", "text", "line"].map(colour);
  const [accent, bad, odd, quiet] = ["accent", "bad", "odd", "quiet"].map(colour);
  const states = [
    ["down", { "line-style": "dashed", "line-color": bad, width: 3 * wide, "border-style": "dashed", "border-color": bad }],
    ["held_down", { "line-style": "dashed", "line-color": quiet }],
    ["missing", { "line-style": "dotted", "line-color": bad, width: 3 * wide, "border-style": "dotted", "border-color": bad, "background-opacity": 0.3 }],
    ["extra", { "line-color": odd, "border-style": "double", "border-width": 5, "border-color": odd, "line-dash-pattern": [12, 3], "line-style": "dashed" }],
  ] as const;
  const sheet = [
    {
      selector: "node",
      style: {
        label: "data(label)", shape: "data(shape)", color: text, "background-color": raised,
        "border-width": 2, "border-color": line, "font-size": LETTERS, "font-family": FONT,
        "text-valign": "center", "text-wrap": "wrap", "font-weight": "bold", width: "data(width)", height: "data(height)",
        "min-zoomed-font-size": 6,
      },
    },
    { selector: 'node[kind = "switch"]', style: { "border-color": accent, "border-width": 3 } },
    {
      selector: "edge",
      style: {
        label: "data(label)", width: 2 * wide, "line-color": accent, "curve-style": "bezier", color: text,
        "font-size": 11, "text-wrap": "wrap", "text-background-color": ground, "text-background-opacity": 0.85,
        "text-background-padding": "2px", "min-zoomed-font-size": 7,
      },
    },
    // Those between the same two things lie so far apart that each has its words along it.
    { selector: "edge[?beside]", style: { "control-point-step-size": 75, "text-rotation": "autorotate" } },
    ...states.map(([state, style]) => ({ selector: `[state = "${state}"]`, style })),
    { selector: ":selected", style: { "underlay-color": accent, "underlay-opacity": 0.35, "underlay-padding": 7 } },
  ];
  return sheet as unknown as cytoscape.StylesheetJson;
}
