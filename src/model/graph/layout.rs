//! Where things are drawn: trees from the top down, lines from left to right, small
//! rings in a circle, fabrics in tiers. What hangs on one thing alone is put beside
//! that, in a row or along rails.
//!
//! General layouts (by layers, by forces: the crates `layout-rs`, `rust-sugiyama`) draw
//! a switch with a hundred nodes as a row of a hundred and a ring as a ladder. Most of
//! a lab hangs on one thing; what is left is small, and of a known shape.
//!
//! N things and E links take O(N log N + E); what is drawn as a circle takes the square
//! of the things on it besides, so of those there are few ([`CIRCLE_MAX`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A place, in pixels.
pub(super) type Point = (i32, i32);

/// A box.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rect {
    pub(super) x: i32,
    pub(super) y: i32,
    pub(super) w: i32,
    pub(super) h: i32,
}

impl Rect {
    fn centre(&self) -> Point {
        (self.x + self.w / 2, self.y + self.h / 2)
    }

    fn right(&self) -> i32 {
        self.x + self.w
    }

    fn bottom(&self) -> i32 {
        self.y + self.h
    }
}

/// A line: a part that others share, and its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) shared: Vec<Point>,
    pub(super) own: Vec<Point>,
    /// The middle of its label, where that has a place of its own.
    pub(super) label: Option<Point>,
}

/// Where all is.
#[derive(Debug, Clone, Default)]
pub(super) struct Picture {
    pub(super) size: Point,
    pub(super) boxes: Vec<Rect>,
    pub(super) wires: Vec<Wire>,
}

/// What is to be drawn.
pub(super) struct Sketch {
    /// The size of each box.
    pub(super) sizes: Vec<Point>,
    /// Which boxes each wire joins.
    pub(super) joined: Vec<Option<[usize; 2]>>,
    /// How wide the label of each wire is.
    pub(super) labels: Vec<i32>,
    /// Whether a box is outside of the lab.
    pub(super) outside: Vec<bool>,
}

/// Between boxes beside each other, and between tiers.
const GAP: i32 = 18;
const TIER: i32 = 48;
/// From a box to the line that its leaves hang on.
const DROP: i32 = 22;
/// From a rail to the boxes along it.
const TICK: i32 = 14;
/// How many leaves stand in one row.
const ROW: usize = 6;
/// Of more things with leaves each has its own along a rail: rows of rows are too wide.
const FEW: usize = 3;
/// How wide a line of things may be before it is folded.
const LINE_WIDTH: i32 = 1500;
/// How many things are a circle.
const CIRCLE_MAX: usize = 48;
/// A ring of more is folded as a line is.
const RING_MAX: usize = 12;

/// Where leaves are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Below,
    Above,
    Left,
    Right,
}

/// A thing with its leaves: where each is, from the corner of the whole.
#[derive(Debug, Clone)]
struct Block {
    size: Point,
    own: Rect,
    boxes: Vec<(usize, Rect)>,
    wires: Vec<(usize, Wire)>,
}

struct Plan<'s> {
    sketch: &'s Sketch,
    /// The neighbours of each, with the wires to them.
    near: Vec<BTreeMap<usize, Vec<usize>>>,
    /// What hangs on one thing alone, by that.
    leaves: Vec<Vec<usize>>,
    is_core: Vec<bool>,
    picture: Picture,
}

/// Finds a place for everything.
pub(super) fn picture(sketch: &Sketch) -> Picture {
    let count = sketch.sizes.len();
    let mut near = vec![BTreeMap::<usize, Vec<usize>>::new(); count];
    for (wire, ends) in sketch.joined.iter().enumerate() {
        let Some([a, b]) = *ends else { continue };
        if a != b {
            near[a].entry(b).or_default().push(wire);
            near[b].entry(a).or_default().push(wire);
        }
    }
    let picture = Picture {
        size: (0, 0),
        boxes: vec![Rect::default(); count],
        wires: vec![Wire::default(); sketch.joined.len()],
    };
    let (leaves, is_core) = (vec![Vec::new(); count], vec![false; count]);
    let mut plan = Plan { sketch, near, leaves, is_core, picture };
    plan.draw();
    plan.picture
}

impl Plan<'_> {
    /// Each part that hangs together, in rows; what hangs on nothing last.
    fn draw(&mut self) {
        let mut seen = vec![false; self.near.len()];
        let (mut parts, mut alone) = (Vec::new(), Vec::new());
        for first in 0..self.near.len() {
            if seen[first] {
                continue;
            }
            let part = self.part(first, &mut seen);
            if part.len() == 1 {
                alone.push(first);
            } else {
                let size = self.part_drawn(&part);
                parts.push((part, size));
            }
        }
        let rows = alone.chunks(ROW * 2).map(|row| (row.to_vec(), self.row_drawn(row)));
        let all: Vec<_> = parts.into_iter().chain(rows.collect::<Vec<_>>()).collect();
        let widest = all.iter().map(|(_, size)| size.0).max().unwrap_or(0).max(LINE_WIDTH);
        let (mut x, mut y, mut high, mut right) = (0, 0, 0, 0);
        for (part, size) in all {
            if x != 0 && widest < x + size.0 {
                (x, y, high) = (0, y + high + TIER, 0);
            }
            self.shift(&part, x, y);
            right = right.max(x + size.0);
            x += size.0 + 2 * GAP;
            high = high.max(size.1);
        }
        self.picture.size = (right, y + high);
    }

    fn part(&self, first: usize, seen: &mut [bool]) -> Vec<usize> {
        seen[first] = true;
        let (mut part, mut next) = (Vec::new(), vec![first]);
        while let Some(at) = next.pop() {
            part.push(at);
            for near in self.near[at].keys() {
                if !std::mem::replace(&mut seen[*near], true) {
                    next.push(*near);
                }
            }
        }
        part.sort_unstable();
        part
    }

    fn row_drawn(&mut self, row: &[usize]) -> Point {
        let (mut x, mut high) = (0, 0);
        for at in row {
            let (w, h) = self.sketch.sizes[*at];
            self.picture.boxes[*at] = Rect { x, y: 0, w, h };
            x += w + GAP;
            high = high.max(h);
        }
        (x - GAP, high)
    }

    fn shift(&mut self, part: &[usize], dx: i32, dy: i32) {
        let moved = |point: &mut Point| *point = (point.0 + dx, point.1 + dy);
        for at in part {
            (self.picture.boxes[*at].x, self.picture.boxes[*at].y) =
                (self.picture.boxes[*at].x + dx, self.picture.boxes[*at].y + dy);
            for (near, wires) in &self.near[*at] {
                for wire in wires.iter().filter(|_| at < near) {
                    let wire = &mut self.picture.wires[*wire];
                    wire.shared.iter_mut().chain(&mut wire.own).for_each(moved);
                    wire.label.iter_mut().for_each(moved);
                }
            }
        }
    }

    /// Draws what hangs together with its corner at 0, 0; returns its size.
    fn part_drawn(&mut self, part: &[usize]) -> Point {
        let mut core: Vec<usize> =
            part.iter().copied().filter(|at| 1 < self.near[*at].len()).collect();
        if core.is_empty() {
            // Two things and nothing else stand beside each other.
            core = part.to_vec();
        }
        core.iter().for_each(|at| self.is_core[*at] = true);
        for at in part.iter().filter(|at| !self.is_core[**at]).copied().collect::<Vec<_>>() {
            let on = *self.near[at].keys().next().expect("it hangs on something");
            self.leaves[on].push(at);
        }
        let inner: BTreeMap<usize, Vec<usize>> =
            core.iter().map(|at| (*at, self.inner(*at))).collect();
        let joins = inner.values().map(Vec::len).sum::<usize>() / 2;
        let is_line = inner.values().all(|near| near.len() <= 2);
        match (joins < core.len(), is_line) {
            (true, true) if 1 < core.len() => self.line(&line(&inner), false),
            (true, _) => self.tree(&inner),
            (false, true) if RING_MAX < core.len() => self.line(&line(&inner), true),
            (false, true) => self.circle(&line(&inner), &inner),
            (false, false) => match self.tiers_of(&inner) {
                Some(tiers) => self.tiers(tiers, &inner),
                None if core.len() <= CIRCLE_MAX => self.circle(&walk(&inner), &inner),
                None => {
                    let tiers = by_distance(&inner, &[middle(&inner)]);
                    self.tiers(tiers, &inner)
                }
            },
        }
    }

    fn inner(&self, at: usize) -> Vec<usize> {
        self.near[at].keys().copied().filter(|near| self.is_core[*near]).collect()
    }

    // ---- a thing and its leaves ----

    fn block(&self, at: usize, side: Side, rails: Option<usize>) -> Block {
        let (w, h) = self.sketch.sizes[at];
        let own = Rect { x: 0, y: 0, w, h };
        let leaves = &self.leaves[at];
        if leaves.is_empty() {
            return Block { size: (w, h), own, boxes: vec![(at, own)], wires: Vec::new() };
        }
        let mut block = match side {
            Side::Left | Side::Right => self.column(at, leaves),
            Side::Below | Side::Above if leaves.len() <= ROW && rails.is_none() => {
                self.row(at, leaves)
            }
            Side::Below | Side::Above => self.rails(at, leaves, rails),
        };
        match side {
            Side::Below | Side::Right => {}
            Side::Above => block
                .turn(|size, rect| (rect.x, size.1 - rect.bottom()), |size, p| (p.0, size.1 - p.1)),
            Side::Left => block
                .turn(|size, rect| (size.0 - rect.right(), rect.y), |size, p| (size.0 - p.0, p.1)),
        }
        block
    }

    /// One row below it.
    fn row(&self, at: usize, leaves: &[usize]) -> Block {
        let (w, h) = self.sketch.sizes[at];
        let sizes: Vec<Point> = leaves.iter().map(|leaf| self.sketch.sizes[*leaf]).collect();
        let wide: i32 = sizes.iter().map(|size| size.0 + GAP).sum::<i32>() - GAP;
        let width = wide.max(w);
        let own = Rect { x: (width - w) / 2, y: 0, w, h };
        let (mut x, bus, top) = ((width - wide) / 2, h + DROP, h + TIER);
        let (mut boxes, mut wires) = (vec![(at, own)], Vec::new());
        for (leaf, size) in leaves.iter().zip(&sizes) {
            let rect = Rect { x, y: top, w: size.0, h: size.1 };
            let start = (own.centre().0, own.bottom());
            let cables = &self.near[at][leaf];
            for (number, wire) in cables.iter().enumerate() {
                let to = rect.x + spread(rect.w, number, cables.len());
                let shared = vec![start, (start.0, bus), (to, bus)];
                let own = vec![(to, bus), (to, top)];
                wires.push((*wire, Wire { shared, own, label: None }));
            }
            boxes.push((*leaf, rect));
            x += size.0 + GAP;
        }
        let high = sizes.iter().map(|size| size.1).max().unwrap_or(0);
        Block { size: (width, top + high), own, boxes, wires }
    }

    /// Along rails below it, on both sides of each.
    fn rails(&self, at: usize, leaves: &[usize], rails: Option<usize>) -> Block {
        let (w, h) = self.sketch.sizes[at];
        let size = |leaf: &usize| self.sketch.sizes[*leaf];
        let wide = leaves.iter().map(|leaf| size(leaf).0).max().unwrap_or(0);
        let high = leaves.iter().map(|leaf| size(leaf).1).max().unwrap_or(0);
        let step = high + GAP / 2;
        if rails.is_some() && leaves.len() <= ROW {
            return self.one_rail(at, leaves, (wide, step));
        }
        let pair = 2 * (wide + TICK) + GAP;
        let rails = rails.unwrap_or_else(|| {
            // As wide as a page is, not as high.
            let shape = |rails: usize| {
                let rows = leaves.len().div_ceil(2 * rails) as i32;
                (10 * rails as i32 * pair - 16 * rows * step).abs()
            };
            (1..=leaves.len().div_ceil(2)).min_by_key(|rails| shape(*rails)).unwrap_or(1)
        });
        let rows = leaves.len().div_ceil(2 * rails);
        let rails = leaves.len().div_ceil(2 * rows);
        let width = (rails as i32 * pair - GAP).max(w);
        let left = (width - (rails as i32 * pair - GAP)) / 2;
        let own = Rect { x: (width - w) / 2, y: 0, w, h };
        let (bus, top) = (h + DROP, h + TIER - GAP / 2);
        let (mut boxes, mut wires) = (vec![(at, own)], Vec::new());
        for (number, leaf) in leaves.iter().enumerate() {
            let (rail, place) = (number / (2 * rows), number % (2 * rows));
            let (row, is_right) = ((place / 2) as i32, place % 2 == 1);
            let x = left + rail as i32 * pair + wide + TICK;
            let to = if is_right { x + TICK } else { x - TICK };
            let (left, y) = (if is_right { to } else { to - wide }, top + row * step);
            let rect = Rect { x: left, y, w: wide, h: size(leaf).1 };
            let start = (own.centre().0, own.bottom());
            let cables = &self.near[at][leaf];
            for (number, wire) in cables.iter().enumerate() {
                let y = rect.y + spread(rect.h, number, cables.len());
                let shared = vec![start, (start.0, bus), (x, bus), (x, y)];
                wires.push((*wire, Wire { shared, own: vec![(x, y), (to, y)], label: None }));
            }
            boxes.push((*leaf, rect));
        }
        Block { size: (width, top + rows as i32 * step - GAP / 2), own, boxes, wires }
    }

    /// Along one side of one rail, where there is much else beside it.
    fn one_rail(&self, at: usize, leaves: &[usize], (wide, step): Point) -> Block {
        let (w, h) = self.sketch.sizes[at];
        let width = (wide + TICK).max(w);
        let own = Rect { x: (width - w) / 2, y: 0, w, h };
        let (bus, top) = (h + DROP, h + TIER - GAP / 2);
        let (start, rail) = (own.centre().0, (width - wide - TICK) / 2);
        let (mut boxes, mut wires) = (vec![(at, own)], Vec::new());
        for (row, leaf) in leaves.iter().enumerate() {
            let (y, x) = (top + row as i32 * step, rail + TICK);
            let rect = Rect { x, y, w: wide, h: self.sketch.sizes[*leaf].1 };
            let cables = &self.near[at][leaf];
            for (number, wire) in cables.iter().enumerate() {
                let y = rect.y + spread(rect.h, number, cables.len());
                let shared = vec![(start, own.bottom()), (start, bus), (rail, bus), (rail, y)];
                wires.push((*wire, Wire { shared, own: vec![(rail, y), (x, y)], label: None }));
            }
            boxes.push((*leaf, rect));
        }
        Block { size: (width, top + leaves.len() as i32 * step - GAP / 2), own, boxes, wires }
    }

    /// In a column at its right.
    fn column(&self, at: usize, leaves: &[usize]) -> Block {
        let (w, h) = self.sketch.sizes[at];
        let sizes: Vec<Point> = leaves.iter().map(|leaf| self.sketch.sizes[*leaf]).collect();
        let high = sizes.iter().map(|size| size.1 + GAP / 2).sum::<i32>() - GAP / 2;
        let wide = sizes.iter().map(|size| size.0).max().unwrap_or(0);
        let height = high.max(h);
        let own = Rect { x: 0, y: (height - h) / 2, w, h };
        let (mut y, bus) = ((height - high) / 2, w + DROP);
        let (mut boxes, mut wires) = (vec![(at, own)], Vec::new());
        for (leaf, size) in leaves.iter().zip(&sizes) {
            let rect = Rect { x: w + TIER, y, w: size.0, h: size.1 };
            let start = (own.right(), own.centre().1);
            let cables = &self.near[at][leaf];
            for (number, wire) in cables.iter().enumerate() {
                let to = rect.y + spread(rect.h, number, cables.len());
                let shared = vec![start, (bus, start.1), (bus, to)];
                let own = vec![(bus, to), (rect.x, to)];
                wires.push((*wire, Wire { shared, own, label: None }));
            }
            boxes.push((*leaf, rect));
            y += size.1 + GAP / 2;
        }
        Block { size: (w + TIER + wide, height), own, boxes, wires }
    }

    fn put(&mut self, block: &Block, x: i32, y: i32) {
        for (at, rect) in &block.boxes {
            self.picture.boxes[*at] = Rect { x: rect.x + x, y: rect.y + y, ..*rect };
        }
        let moved = |point: &mut Point| *point = (point.0 + x, point.1 + y);
        for (at, wire) in &block.wires {
            let mut wire = wire.clone();
            wire.shared.iter_mut().chain(&mut wire.own).for_each(moved);
            self.picture.wires[*at] = wire;
        }
    }

    fn cables(&self, a: usize, b: usize) -> Vec<usize> {
        self.near[a].get(&b).cloned().unwrap_or_default()
    }

    fn label(&self, a: usize, b: usize) -> i32 {
        self.cables(a, b).iter().map(|wire| self.sketch.labels[*wire]).max().unwrap_or(0)
    }

    // ---- lines ----

    /// From left to right, and back in the next row; a ring is closed along the left.
    fn line(&mut self, order: &[usize], is_ring: bool) -> Point {
        let rails = (2 < order.len()).then_some(1);
        let block = |at: &usize| {
            let few = self.leaves[*at].len() <= 2;
            self.block(*at, Side::Below, if few { None } else { rails })
        };
        let blocks: Vec<Block> = order.iter().map(block).collect();
        let gaps: Vec<i32> =
            order.windows(2).map(|two| (self.label(two[0], two[1]) + GAP).max(TIER)).collect();
        let gap = |at: usize| gaps.get(at).copied().unwrap_or(TIER);
        // As much as there is room for in a row; a page is wider than high.
        let all: i32 = (0..blocks.len()).map(|at| blocks[at].size.0 + gap(at)).sum();
        let high = blocks.iter().map(|it| it.size.1).max().unwrap_or(0) + TIER;
        let page = (f64::from(all) * f64::from(high) * 1.6).sqrt() as i32;
        let most = page.max(LINE_WIDTH);
        let mut rows: Vec<Vec<usize>> = vec![Vec::new()];
        let mut x = 0;
        for (at, block) in blocks.iter().enumerate() {
            if x != 0 && most < x + block.size.0 {
                rows.push(Vec::new());
                x = 0;
            }
            rows.last_mut().expect("there is one").push(at);
            x += block.size.0 + gap(at);
        }
        if is_ring && rows.len() % 2 == 1 {
            // It has to end where it began, at the left: two halves of each row.
            return self.loop_of(order, &blocks, &gaps);
        }
        let wide = |row: &Vec<usize>| {
            let all: i32 = row.iter().map(|at| blocks[*at].size.0 + gap(*at)).sum();
            all - row.last().map_or(0, |at| gap(*at))
        };
        let width = rows.iter().map(wide).max().unwrap_or(0);
        let margin = if 1 < rows.len() || is_ring { TIER / 2 } else { 0 };
        let mut y = 0;
        for (number, row) in rows.iter().enumerate() {
            let middle = row.iter().map(|at| blocks[*at].own.h).max().unwrap_or(0) / 2;
            let is_back = number % 2 == 1;
            let mut x = if is_back { margin + width } else { margin };
            for at in row {
                let block = &blocks[*at];
                let left = if is_back { x - block.size.0 } else { x };
                self.put(block, left, y + middle - block.own.h / 2);
                let step = block.size.0 + gap(*at);
                x += if is_back { -step } else { step };
            }
            let ends = row.iter().map(|at| middle - blocks[*at].own.h / 2 + blocks[*at].size.1);
            y += ends.max().unwrap_or(0) + TIER;
        }
        for (number, row) in rows.iter().enumerate() {
            let is_back = number % 2 == 1;
            let last = *row.last().expect("no row is empty");
            for two in row.windows(2) {
                self.wire_beside(order[two[0]], order[two[1]], is_back);
            }
            if let Some(next) = rows.get(number + 1) {
                let x = if is_back { 0 } else { margin + width + TIER / 2 };
                self.wire_around(order[last], order[next[0]], x);
            }
        }
        if is_ring {
            self.wire_around(order[order.len() - 1], order[0], 0);
        }
        (width + 2 * margin, y - TIER)
    }

    /// A ring as two rows, the one above and the one below.
    fn loop_of(&mut self, order: &[usize], blocks: &[Block], gaps: &[i32]) -> Point {
        let half = order.len().div_ceil(2);
        let rails = |at: usize| (2 < self.leaves[at].len()).then_some(1);
        let above: Vec<Block> =
            order[..half].iter().map(|at| self.block(*at, Side::Above, rails(*at))).collect();
        let below = &blocks[half..];
        let gap = gaps.iter().copied().max().unwrap_or(TIER);
        let wide = above.iter().chain(below).map(|it| it.size.0).max().unwrap_or(0) + gap;
        let top = above.iter().map(|it| it.own.y).max().unwrap_or(0);
        let low = top + above.iter().map(|it| it.own.h).max().unwrap_or(0) + 2 * TIER;
        let mut height = 0;
        for (number, block) in above.iter().chain(below).enumerate() {
            let column = if number < half { number } else { order.len() - 1 - number };
            let y = if number < half { top - block.own.y } else { low };
            let x = TIER / 2 + wide * column as i32 + (wide - gap - block.size.0) / 2;
            self.put(block, x, y);
            height = height.max(y + block.size.1);
        }
        for number in 0..order.len() {
            let (a, b) = (order[number], order[(number + 1) % order.len()]);
            match number {
                _ if number + 1 == half || number + 1 == order.len() => self.wire_upright(a, b),
                _ => self.wire_beside(a, b, half <= number),
            }
        }
        (TIER + wide * half as i32 - gap, height)
    }

    /// From side to side.
    fn wire_beside(&mut self, a: usize, b: usize, is_back: bool) {
        let (ra, rb) = (self.picture.boxes[a], self.picture.boxes[b]);
        let cables = self.cables(a, b);
        for (number, wire) in cables.iter().enumerate() {
            let apart = beside(number, cables.len());
            let y = ra.centre().1.max(rb.y + 2).min(rb.bottom() - 2) + apart;
            let (from, to) = if is_back { (ra.x, rb.right()) } else { (ra.right(), rb.x) };
            let label = Some(((from + to) / 2, y - 9 + 2 * apart.min(0)));
            let own = vec![(from, y), (to, y)];
            self.picture.wires[*wire] = Wire { shared: Vec::new(), own, label };
        }
    }

    /// Out to a margin, along it, and in again.
    fn wire_around(&mut self, a: usize, b: usize, x: i32) {
        let (ra, rb) = (self.picture.boxes[a], self.picture.boxes[b]);
        let cables = self.cables(a, b);
        for (number, wire) in cables.iter().enumerate() {
            let apart = beside(number, cables.len());
            let side = |rect: Rect| if x <= rect.x { rect.x } else { rect.right() };
            let (ya, yb) = (ra.centre().1 + apart, rb.centre().1 + apart);
            let own = vec![(side(ra), ya), (x + apart, ya), (x + apart, yb), (side(rb), yb)];
            let label = Some((x + apart, (ya + yb) / 2));
            self.picture.wires[*wire] = Wire { shared: Vec::new(), own, label };
        }
    }

    /// Straight up or down, or slanting.
    fn wire_upright(&mut self, a: usize, b: usize) {
        let (a, b) =
            if self.picture.boxes[a].y < self.picture.boxes[b].y { (a, b) } else { (b, a) };
        let (ra, rb) = (self.picture.boxes[a], self.picture.boxes[b]);
        let cables = self.cables(a, b);
        for (number, wire) in cables.iter().enumerate() {
            let apart = beside(number, cables.len());
            let (from, to) = ((ra.centre().0 + apart, ra.bottom()), (rb.centre().0 + apart, rb.y));
            let label = Some(((from.0 + to.0) / 2, (from.1 + to.1) / 2));
            self.picture.wires[*wire] = Wire { shared: Vec::new(), own: vec![from, to], label };
        }
    }

    // ---- trees ----

    fn tree(&mut self, inner: &BTreeMap<usize, Vec<usize>>) -> Point {
        let rails = (FEW < inner.len()).then_some(1);
        self.branch(middle(inner), None, inner, rails, (0, 0)).0
    }

    /// Draws a thing and all below it; returns the size of that, and all that is
    /// in it.
    fn branch(
        &mut self,
        at: usize,
        from: Option<usize>,
        inner: &BTreeMap<usize, Vec<usize>>,
        rails: Option<usize>,
        corner: Point,
    ) -> (Point, Vec<usize>) {
        let (w, h) = self.sketch.sizes[at];
        let children: Vec<usize> =
            inner[&at].iter().copied().filter(|near| Some(*near) != from).collect();
        if children.is_empty() {
            let few = self.leaves[at].len() <= 2;
            let block = self.block(at, Side::Below, if few { None } else { rails });
            self.put(&block, corner.0, corner.1);
            return (block.size, block.boxes.iter().map(|(at, _)| *at).collect());
        }
        let below = corner.1 + h + TIER;
        let (mut x, mut bottom, mut all) = (corner.0, corner.1 + h, vec![at]);
        let leaves = self.leaves[at].clone();
        if !leaves.is_empty() {
            // They stand beside what leads further, on the same line.
            let block = self.block(at, Side::Below, rails.or((2 < leaves.len()).then_some(1)));
            let mut block = Block { boxes: block.boxes[1..].to_vec(), ..block };
            let left = block.boxes.iter().map(|(_, rect)| rect.x).min().unwrap_or(0);
            let right = block.boxes.iter().map(|(_, rect)| rect.right()).max().unwrap_or(0);
            block.wires.clear();
            // The rail is left of them, if they stand in one column.
            x += if block.boxes.iter().all(|(_, it)| it.x == left) { TICK } else { 0 };
            let top = block.boxes.iter().map(|(_, rect)| rect.y).min().unwrap_or(0);
            self.put(&block, x - left, below - top);
            all.extend(block.boxes.iter().map(|(at, _)| *at));
            x += right - left + 2 * GAP;
            bottom = bottom.max(below + block.size.1 - top);
        }
        for child in &children {
            let ((w, h), some) = self.branch(*child, Some(at), inner, rails, (x, below));
            // A label stands beside the line, and wants its room.
            let own = self.picture.boxes[*child];
            let label = own.centre().0 - x + self.label(at, *child) + GAP;
            all.extend(some);
            x += w.max(label) + 2 * GAP;
            bottom = bottom.max(below + h);
        }
        let wide = x - 2 * GAP - corner.0;
        let width = wide.max(w);
        self.shift(&all, (width - wide) / 2, 0);
        let own = Rect { x: corner.0 + (width - w) / 2, y: corner.1, w, h };
        self.picture.boxes[at] = own;
        self.wire_leaves(at, &leaves);
        for child in &children {
            self.wire_down(at, *child);
        }
        ((width, bottom - corner.1), all)
    }

    fn wire_down(&mut self, at: usize, child: usize) {
        let (own, rect) = (self.picture.boxes[at], self.picture.boxes[child]);
        let (start, bus) = (own.centre().0, own.bottom() + DROP);
        let cables = self.cables(at, child);
        for (number, wire) in cables.iter().enumerate() {
            let to = rect.centre().0 + beside(number, cables.len());
            let shared = vec![(start, own.bottom()), (start, bus), (to, bus)];
            let label = (to + 4 + self.sketch.labels[*wire] / 2, (bus + rect.y) / 2 + 1);
            let own = vec![(to, bus), (to, rect.y)];
            self.picture.wires[*wire] = Wire { shared, own, label: Some(label) };
        }
    }

    /// To leaves that stand along a rail, or in a row.
    fn wire_leaves(&mut self, at: usize, leaves: &[usize]) {
        let own = self.picture.boxes[at];
        let (start, bus) = (own.centre().0, own.bottom() + DROP);
        let rects: Vec<Rect> = leaves.iter().map(|leaf| self.picture.boxes[*leaf]).collect();
        let is_row = rects.iter().all(|rect| rect.y == rects[0].y) && leaves.len() <= 2;
        let is_one = rects.iter().all(|rect| rect.x == rects[0].x);
        let side = |rect: &Rect| if is_one { rect.x - TICK } else { rect.right() + TICK };
        let rail = rects.first().map_or(0, side);
        for (leaf, rect) in leaves.iter().zip(&rects) {
            let cables = self.cables(at, *leaf);
            for (number, wire) in cables.iter().enumerate() {
                let (shared, own) = if is_row {
                    let to = rect.x + spread(rect.w, number, cables.len());
                    let shared = vec![(start, own.bottom()), (start, bus), (to, bus)];
                    (shared, vec![(to, bus), (to, rect.y)])
                } else {
                    let y = rect.y + spread(rect.h, number, cables.len());
                    let to = if rect.x < rail { rect.right() } else { rect.x };
                    let shared = vec![(start, own.bottom()), (start, bus), (rail, bus), (rail, y)];
                    (shared, vec![(rail, y), (to, y)])
                };
                self.picture.wires[*wire] = Wire { shared, own, label: None };
            }
        }
    }

    // ---- circles ----

    fn circle(&mut self, order: &[usize], inner: &BTreeMap<usize, Vec<usize>>) -> Point {
        let count = order.len();
        // None stands at the very side of it.
        let offset = if count.is_multiple_of(4) { 0.5 } else { 0.0 };
        let angle =
            |at: usize| ((at as f64 + offset) / count as f64 - 0.25) * std::f64::consts::TAU;
        let side = |at: usize| match (angle(at).sin(), angle(at).cos()) {
            (sin, cos) if sin.abs() < 0.6 && 4 < count => {
                if cos < 0.0 {
                    Side::Left
                } else {
                    Side::Right
                }
            }
            (sin, _) if sin < 0.0 => Side::Above,
            _ => Side::Below,
        };
        let blocks: Vec<Block> =
            (0..count).map(|at| self.block(order[at], side(at), None)).collect();
        let places = |radius: f64| -> Vec<Rect> {
            let place = |at: usize| {
                let own = blocks[at].own.centre();
                let x = (radius * 1.35 * angle(at).cos()).round() as i32 - own.0;
                let y = (radius * angle(at).sin()).round() as i32 - own.1;
                Rect { x, y, w: blocks[at].size.0, h: blocks[at].size.1 }
            };
            (0..count).map(place).collect()
        };
        let clear = |a: &Rect, b: &Rect| {
            a.right() + TIER <= b.x
                || b.right() + TIER <= a.x
                || a.bottom() + TIER <= b.y
                || b.bottom() + TIER <= a.y
        };
        let mut labels = 0;
        for (at, near) in inner {
            labels = near.iter().map(|near| self.label(*at, *near)).max().unwrap_or(0).max(labels);
        }
        let mut radius = 90.0 + f64::from(labels) / 2.0;
        let places = loop {
            let all = places(radius);
            if (0..count).all(|a| (0..a).all(|b| clear(&all[a], &all[b]))) {
                break all;
            }
            radius *= 1.06;
        };
        let left = places.iter().map(|it| it.x).min().unwrap_or(0);
        let top = places.iter().map(|it| it.y).min().unwrap_or(0);
        for (block, place) in blocks.iter().zip(&places) {
            self.put(block, place.x - left, place.y - top);
        }
        for (a, near) in inner {
            for b in near.iter().filter(|b| a < b) {
                self.wire_straight(*a, *b);
            }
        }
        let right = places.iter().map(Rect::right).max().unwrap_or(0);
        let bottom = places.iter().map(Rect::bottom).max().unwrap_or(0);
        (right - left, bottom - top)
    }

    /// From middle to middle, behind both boxes.
    fn wire_straight(&mut self, a: usize, b: usize) {
        let (ra, rb) = (self.picture.boxes[a].centre(), self.picture.boxes[b].centre());
        let (dx, dy) = (f64::from(rb.0 - ra.0), f64::from(rb.1 - ra.1));
        let length = dx.hypot(dy).max(1.0);
        let cables = self.cables(a, b);
        for (number, wire) in cables.iter().enumerate() {
            let apart = f64::from(beside(number, cables.len()));
            let (sx, sy) = ((-dy / length * apart) as i32, (dx / length * apart) as i32);
            let (from, to) = ((ra.0 + sx, ra.1 + sy), (rb.0 + sx, rb.1 + sy));
            let label = Some(((from.0 + to.0) / 2 + sx, (from.1 + to.1) / 2 + sy));
            self.picture.wires[*wire] = Wire { shared: Vec::new(), own: vec![from, to], label };
        }
    }

    // ---- tiers ----

    /// What has nodes is the lowest tier, what is beside that the next: if most
    /// links lead from tier to tier.
    fn tiers_of(&self, inner: &BTreeMap<usize, Vec<usize>>) -> Option<Vec<Vec<usize>>> {
        let has_nodes =
            |at: &&usize| self.leaves[**at].iter().any(|leaf| !self.sketch.outside[*leaf]);
        let mut lowest: Vec<usize> = inner.keys().filter(has_nodes).copied().collect();
        if lowest.is_empty() {
            let least = inner.values().map(Vec::len).min()?;
            lowest = inner.iter().filter(|(_, it)| it.len() == least).map(|(at, _)| *at).collect();
        }
        let tiers = by_distance(inner, &lowest);
        let tier: BTreeMap<usize, usize> = tiers
            .iter()
            .enumerate()
            .flat_map(|(tier, all)| all.iter().map(move |at| (*at, tier)))
            .collect();
        let joins: usize = inner.values().map(Vec::len).sum();
        let level = inner.iter().flat_map(|(at, near)| near.iter().map(move |near| (at, near)));
        let level = level.filter(|(a, b)| tier[*a] == tier[*b]).count();
        let between = tiers.get(1..tiers.len().saturating_sub(1)).unwrap_or_default();
        let hangs = between.iter().flatten().any(|at| !self.leaves[*at].is_empty());
        (1 < tiers.len() && level * 4 <= joins && !hangs).then_some(tiers)
    }

    /// Draws tiers, the lowest (which is the first) at the bottom.
    fn tiers(&mut self, mut tiers: Vec<Vec<usize>>, inner: &BTreeMap<usize, Vec<usize>>) -> Point {
        let last = tiers.len() - 1;
        let rails = (FEW <= tiers[0].len()).then_some(1);
        let side = |tier: usize| if tier == last { Side::Above } else { Side::Below };
        let mut blocks: BTreeMap<usize, Block> = BTreeMap::new();
        for (tier, all) in tiers.iter().enumerate() {
            let rails = |at: usize| if self.leaves[at].len() <= 1 { None } else { rails };
            blocks.extend(all.iter().map(|at| (*at, self.block(*at, side(tier), rails(*at)))));
        }
        let mut middle: BTreeMap<usize, f64> = BTreeMap::new();
        let level: BTreeMap<usize, usize> = tiers
            .iter()
            .enumerate()
            .flat_map(|(tier, all)| all.iter().map(move |at| (*at, tier)))
            .collect();
        for all in &tiers {
            for (at, place) in all.iter().zip(packed(all, &blocks, None)) {
                middle.insert(*at, place);
            }
        }
        // Everything goes to the middle of its neighbours, tier by tier, up and down.
        let upwards: Vec<usize> = (0..tiers.len()).collect();
        let downwards: Vec<usize> = (0..tiers.len()).rev().collect();
        for round in 0..12 {
            let is_last = round == 11;
            for tier in if round % 2 == 0 || is_last { &upwards } else { &downwards } {
                if is_last && *tier == 0 {
                    continue;
                }
                let wish = |at: &usize| {
                    // At last what is above stands over the middle of what is below.
                    let below: Vec<usize> = match tier.checked_sub(1) {
                        Some(below) if is_last => {
                            inner[at].iter().copied().filter(|it| level[it] == below).collect()
                        }
                        _ => inner[at].clone(),
                    };
                    let near = &below;
                    near.iter().map(|near| middle[near]).sum::<f64>() / near.len().max(1) as f64
                };
                let mut wishes: Vec<(f64, usize)> =
                    tiers[*tier].iter().map(|at| (wish(at), *at)).collect();
                if round < 6 {
                    wishes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                }
                tiers[*tier] = wishes.iter().map(|(_, at)| *at).collect();
                let wishes: Vec<f64> = wishes.iter().map(|(wish, _)| *wish).collect();
                let places = packed(&tiers[*tier], &blocks, Some(&wishes));
                middle.extend(tiers[*tier].iter().copied().zip(places));
            }
        }
        let left = |at: &usize| middle[at] - f64::from(blocks[at].size.0) / 2.0;
        let least = tiers.iter().flatten().map(left).fold(f64::INFINITY, f64::min);
        let (mut y, mut width) = (0, 0);
        for (tier, all) in tiers.iter().enumerate().rev() {
            let high = all.iter().map(|at| blocks[at].size.1).max().unwrap_or(0);
            for at in all {
                let (block, x) = (&blocks[at], (left(at) - least).round() as i32);
                let lower = if side(tier) == Side::Above { high - block.size.1 } else { 0 };
                self.put(block, x, y + lower);
                width = width.max(x + block.size.0);
            }
            // The more lines there are, the more room they want.
            y += high + TIER + (12 * all.len() as i32).clamp(24, 140);
        }
        let height = y - TIER - (12 * tiers[0].len() as i32).clamp(24, 140);
        for all in &tiers {
            for two in all.windows(2).filter(|two| inner[&two[0]].contains(&two[1])) {
                self.wire_beside(two[0], two[1], false);
            }
        }
        let place: BTreeMap<usize, (usize, usize)> = tiers
            .iter()
            .enumerate()
            .flat_map(|(tier, all)| all.iter().enumerate().map(move |(x, at)| (*at, (tier, x))))
            .collect();
        for (a, near) in inner {
            for b in near.iter().filter(|b| a < b) {
                let ((ta, xa), (tb, xb)) = (place[a], place[b]);
                match ta == tb {
                    true if xa.abs_diff(xb) == 1 => {}
                    true => self.wire_straight(*a, *b),
                    false => self.wire_ports(*a, *b, &place, inner),
                }
            }
        }
        (width, height)
    }

    /// From tier to tier: the ends are spread along the boxes in the order in which
    /// the lines lead away.
    fn wire_ports(
        &mut self,
        a: usize,
        b: usize,
        place: &BTreeMap<usize, (usize, usize)>,
        inner: &BTreeMap<usize, Vec<usize>>,
    ) {
        let (low, high) = if place[&a].0 < place[&b].0 { (a, b) } else { (b, a) };
        let port = |at: usize, to: usize| {
            let tier = place[&to].0;
            let same = inner[&at].iter().filter(|near| place[*near].0 == tier);
            let number = same.clone().filter(|near| place[*near].1 < place[&to].1).count();
            let rect = self.picture.boxes[at];
            rect.x + spread(rect.w, number, same.count())
        };
        let (from, to) = (port(high, low), port(low, high));
        let (top, bottom) = (self.picture.boxes[high].bottom(), self.picture.boxes[low].y);
        let cables = self.cables(a, b);
        for (number, wire) in cables.iter().enumerate() {
            let apart = beside(number, cables.len()) / 2;
            let (from, to) = ((from + apart, top), (to + apart, bottom));
            let label = Some(((2 * from.0 + to.0) / 3, (2 * from.1 + to.1) / 3));
            self.picture.wires[*wire] = Wire { shared: Vec::new(), own: vec![from, to], label };
        }
    }
}

impl Block {
    /// Mirrors it.
    fn turn(
        &mut self,
        corner: impl Fn(Point, &Rect) -> Point,
        point: impl Fn(Point, Point) -> Point,
    ) {
        let size = self.size;
        for rect in self.boxes.iter_mut().map(|(_, rect)| rect).chain([&mut self.own]) {
            (rect.x, rect.y) = corner(size, rect);
        }
        for (_, wire) in &mut self.wires {
            for at in wire.shared.iter_mut().chain(&mut wire.own) {
                *at = point(size, *at);
            }
        }
    }
}

/// The middle of each of a tier, as near to what is wished as there is room (the
/// least sum of squares: those that would overlap stand together, around the middle
/// of their wishes).
fn packed(all: &[usize], blocks: &BTreeMap<usize, Block>, wishes: Option<&[f64]>) -> Vec<f64> {
    let mut offsets = Vec::with_capacity(all.len());
    let mut x = 0.0;
    for at in all {
        let wide = f64::from(blocks[at].size.0);
        offsets.push(x + wide / 2.0);
        x += wide + f64::from(2 * GAP);
    }
    let Some(wishes) = wishes else { return offsets };
    // Groups that stand together: their number, and the sum of what they wish.
    let mut groups: Vec<(usize, f64)> = Vec::new();
    for (wish, offset) in wishes.iter().zip(&offsets) {
        groups.push((1, wish - offset));
        while let [.., (n, a), (m, b)] = groups.as_slice()
            && b / (*m as f64) < a / (*n as f64)
        {
            let joined = (n + m, a + b);
            groups.truncate(groups.len() - 2);
            groups.push(joined);
        }
    }
    let starts = groups.iter().flat_map(|(n, sum)| std::iter::repeat_n(sum / *n as f64, *n));
    starts.zip(&offsets).map(|(start, offset)| start + offset).collect()
}

/// The place of one of several along a side.
fn spread(length: i32, number: usize, of: usize) -> i32 {
    length * (number as i32 + 1) / (of as i32 + 1)
}

/// How far one of several cables is beside the middle.
fn beside(number: usize, of: usize) -> i32 {
    (2 * number as i32 - (of as i32 - 1)) * 5
}

/// A line from one of its ends, or a ring from the first.
fn line(inner: &BTreeMap<usize, Vec<usize>>) -> Vec<usize> {
    let ends = inner.iter().find(|(_, near)| near.len() <= 1).map(|(at, _)| *at);
    let first = ends.unwrap_or_else(|| *inner.keys().next().expect("not empty"));
    let (mut order, mut seen) = (vec![first], BTreeSet::from([first]));
    let mut last = first;
    while let Some(next) = inner[&last].iter().copied().find(|near| !seen.contains(near)) {
        order.push(next);
        seen.insert(next);
        last = next;
    }
    order
}

/// All of them as one walks along.
fn walk(inner: &BTreeMap<usize, Vec<usize>>) -> Vec<usize> {
    let (mut order, mut seen) = (Vec::new(), BTreeSet::new());
    let mut path = vec![*inner.keys().next().expect("not empty")];
    while let Some(at) = path.last().copied() {
        if seen.insert(at) {
            order.push(at);
        }
        match inner[&at].iter().find(|near| !seen.contains(near)) {
            Some(next) => path.push(*next),
            None => drop(path.pop()),
        }
    }
    order
}

/// What is in the middle: what is left when ends are taken away again and again; of
/// several, what most comes together at.
fn middle(inner: &BTreeMap<usize, Vec<usize>>) -> usize {
    let mut left: BTreeMap<usize, usize> = inner.iter().map(|(at, it)| (*at, it.len())).collect();
    let mut ends: Vec<usize> = left.iter().filter(|(_, n)| **n <= 1).map(|(at, _)| *at).collect();
    while !ends.is_empty() && ends.len() < left.len() {
        let mut next = Vec::new();
        for end in ends {
            left.remove(&end);
            for near in &inner[&end] {
                if let Some(count) = left.get_mut(near) {
                    *count = count.saturating_sub(1);
                    if *count == 1 {
                        next.push(*near);
                    }
                }
            }
        }
        ends = next;
    }
    let most = |(at, count): &(&usize, &usize)| (std::cmp::Reverse(**count), **at);
    *left.iter().min_by_key(most).expect("not empty").0
}

/// Everything by its distance from some.
fn by_distance(inner: &BTreeMap<usize, Vec<usize>>, from: &[usize]) -> Vec<Vec<usize>> {
    let mut far: BTreeMap<usize, usize> = from.iter().map(|at| (*at, 0)).collect();
    let mut next: VecDeque<usize> = from.iter().copied().collect();
    while let Some(at) = next.pop_front() {
        for near in &inner[&at] {
            if !far.contains_key(near) {
                far.insert(*near, far[&at] + 1);
                next.push_back(*near);
            }
        }
    }
    let mut tiers = vec![Vec::new(); far.values().max().map_or(0, |last| last + 1)];
    far.into_iter().for_each(|(at, tier)| tiers[tier].push(at));
    tiers
}
