//! A terminal that is taken over for a while, and given back as it was, however
//! that ends. It is drawn by `ratatui`, which sends only what has changed, knows how
//! wide a letter is, and puts the terminal right in a panic, too.

use std::io;
use std::thread;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table as Columns};
use ratatui::{DefaultTerminal, Frame};
use tokio::sync::mpsc;

/// What is on the screen.
pub(super) struct Table {
    pub(super) head: String,
    pub(super) foot: String,
    /// The first is the head of the columns.
    pub(super) rows: Vec<Vec<String>>,
}

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pressed {
    Quit,
    Sort,
    Pause,
    Nothing,
}

/// A terminal of ours until it is dropped.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    events: mpsc::UnboundedReceiver<Event>,
    /// How many rows are above what is shown.
    above: usize,
    /// How many there are, and how many fit.
    rows: (usize, usize),
}

impl Screen {
    pub(super) fn enter() -> io::Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| {
            // A part of it may have been done; the first failure is the one to tell.
            let _ = ratatui::try_restore();
        })?;
        let (tell, events) = mpsc::unbounded_channel();
        let screen = Self { terminal, events, above: 0, rows: (0, 0) };
        let keys = move || {
            // It ends with the terminal, or when nobody listens any more.
            while let Ok(event) = event::read() {
                if tell.send(event).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("keys".into()).spawn(keys)?;
        Ok(screen)
    }

    /// Awaits a key that means something, or another size.
    pub(super) async fn pressed(&mut self) -> Pressed {
        loop {
            match self.events.recv().await {
                None => return Pressed::Quit,
                Some(Event::Resize(..)) => return Pressed::Nothing,
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    if let Some(pressed) = self.key(key) {
                        return pressed;
                    }
                }
                Some(_) => {}
            }
        }
    }

    fn key(&mut self, key: KeyEvent) -> Option<Pressed> {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        let (last, page) = (self.rows.0.saturating_sub(self.rows.1), self.rows.1.max(1));
        let above = match key.code {
            KeyCode::Char('c' | 'd') if is_control => return Some(Pressed::Quit),
            KeyCode::Char('q' | 'Q') | KeyCode::Esc => return Some(Pressed::Quit),
            KeyCode::Char('s' | 'S') => return Some(Pressed::Sort),
            KeyCode::Char('p' | 'P' | ' ') => return Some(Pressed::Pause),
            KeyCode::Up | KeyCode::Char('k') => self.above.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.above + 1,
            KeyCode::PageUp => self.above.saturating_sub(page),
            KeyCode::PageDown => self.above + page,
            KeyCode::Home => 0,
            KeyCode::End => last,
            _ => return None,
        };
        self.above = above.min(last);
        Some(Pressed::Nothing)
    }

    /// Shows of a table as much as fits.
    pub(super) fn show(&mut self, table: &Table) -> io::Result<()> {
        let (mut above, mut rows) = (self.above, self.rows);
        self.terminal.draw(|frame| (above, rows) = draw(frame, table, above))?;
        (self.above, self.rows) = (above, rows);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If the terminal is gone there is nothing to give back.
        let _ = ratatui::try_restore();
    }
}

/// How wide a number is: `-> BIT/S`.
const NUMBER: u16 = 8;

/// Draws a table; returns how many rows are above it, how many there are, and how many
/// fit.
fn draw(frame: &mut Frame, table: &Table, above: usize) -> (usize, (usize, usize)) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Line::from(table.head.as_str()).style(Modifier::BOLD), head);
    let Some((names, rows)) = table.rows.split_first() else { return (0, (0, 0)) };
    let fit = usize::from(body.height.saturating_sub(1));
    let above = above.min(rows.len().saturating_sub(fit));
    // As many columns as there is room for beside the names: they come by weight.
    let columns = match body.width {
        0..58 => 3,
        58..86 => 5,
        _ => names.len(),
    };
    let name = usize::from(body.width.saturating_sub((NUMBER + 1) * (columns as u16 - 1)));
    let row = |cells: &[String]| {
        let cells = cells.iter().take(columns).enumerate().map(|(at, cell)| match at {
            0 => Cell::from(shortened(cell, name)),
            _ => Cell::from(Text::from(cell.clone()).right_aligned()),
        });
        Row::new(cells)
    };
    let widths = [Constraint::Fill(1)]
        .into_iter()
        .chain(std::iter::repeat_n(Constraint::Length(NUMBER), columns - 1));
    let shown = rows.iter().skip(above).take(fit).map(|cells| row(cells));
    let columns = Columns::new(shown, widths)
        .header(row(names).style(Style::new().add_modifier(Modifier::UNDERLINED)));
    frame.render_widget(columns, body);
    frame.render_widget(Line::from(table.foot.as_str()).style(Modifier::DIM), foot);
    let more = rows.len().saturating_sub(above + fit);
    let more = format!(" {more} more");
    let wide = more.len() as u16;
    if above + fit < rows.len() && wide < head.width {
        let corner = Rect { x: head.right() - wide, width: wide, ..head };
        frame.render_widget(Line::from(more).style(Modifier::BOLD), corner);
    }
    (above, (rows.len(), fit))
}

/// A name of two ends that is too long loses its middle: both ends tell it from
/// others.
fn shortened(name: &str, letters: usize) -> String {
    let count = name.chars().count();
    if count <= letters {
        return name.to_owned();
    }
    let kept = letters.saturating_sub(1);
    let front: String = name.chars().take(kept.div_ceil(2)).collect();
    let back: String = name.chars().skip(count - kept / 2).collect();
    format!("{front}…{back}")
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn shown(columns: u16, rows: u16, above: usize) -> String {
        let head = ["LINK", "-> BIT/S", "<- BIT/S", "-> PKT/S", "<- PKT/S", "DROPPED", "ERRORS"];
        let mut all = vec![head.map(str::to_owned).to_vec()];
        for number in 1..=5 {
            let name = format!("a-node-with-a-long-name-{number}:eth0 -- switch{number}");
            let cells = ["1.25 M", "980", "104", "3", "0", "0"].map(str::to_owned);
            all.push([name].into_iter().chain(cells).collect());
        }
        let (head, foot) = ("lab l  5 links  every 1.0 s".into(), "q quit  s sort: rate".into());
        let table = Table { head, foot, rows: all };
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("a screen");
        let draw = |frame: &mut Frame| {
            draw(frame, &table, above);
        };
        terminal.draw(draw).expect("it is drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn screens_of_any_size() {
        let all = [(100, 9, 0), (60, 6, 1), (40, 6, 99), (12, 3, 0), (1, 1, 0)];
        let text = all.map(|(columns, rows, above)| shown(columns, rows, above));
        insta::assert_snapshot!(text.join("\n"));
    }
}
