// Runs for each half of the conversation: buttons become 'act' events, copy and edit begin here.
const send = (action, turn, text) => trigger('act', { action, turn, text: text ?? '' });

const copy = async (button) => {
  await navigator.clipboard.writeText(button.dataset.text);
  const title = button.title;
  button.classList.add('sn-done');
  button.title = button.dataset.done;
  setTimeout(() => { button.classList.remove('sn-done'); button.title = title; }, 1200);
};

// Open edits, by the turn's name. A turn is drawn anew when it moves from one half to the other and whenever
// buttons come or go; what a person is writing must outlive that, so both halves share the list and put the
// very same box back into what was drawn. A turn that was deleted or asked anew never comes back by its name.
const transcript = () => element.closest('#transcript');
const edits = () => (transcript().snugEdits ??= new Map());

const articleOf = (turn) => transcript().querySelector(`[data-turn="${turn}"].sn-turn`);

const put = (edit, article) => {
  const button = article.querySelector('[data-act="edit"]');
  if (button) {
    // Also in the page's language, which may have changed.
    edit.area.setAttribute('aria-label', button.title);
    edit.save.textContent = button.dataset.save;
    edit.cancel.textContent = button.dataset.cancel;
  }
  // While an answer comes nothing can be asked; the box stays, its button waits.
  edit.save.disabled = !button;
  article.querySelector('.sn-text').replaceChildren(edit.box);
  if (edit.focused) edit.area.focus({ preventScroll: true });
};

const restore = () => {
  if (transcript().querySelector('.sn-welcome')) edits().clear();
  for (const [turn, edit] of edits()) {
    const article = edit.box.isConnected ? null : articleOf(turn);
    // A turn that streams is drawn many times a second: the edit comes back when it is done.
    if (article && article.getAttribute('aria-busy') !== 'true') put(edit, article);
  }
};

const close = (turn) => {
  const edit = edits().get(turn);
  edits().delete(turn);
  const article = edit.box.closest('.sn-turn');
  edit.box.replaceWith(edit.asked);
  article?.querySelector('[data-act="edit"]')?.focus();
};

const make = (tag, fields) => Object.assign(document.createElement(tag), fields);

const begin = (button, turn) => {
  const open = edits().get(turn);
  if (open) return open.box.isConnected ? open.area.focus() : put(open, articleOf(turn));
  const edit = { asked: button.dataset.text, focused: true };
  const save = () => {
    const text = edit.area.value.trim();
    if (!text || edit.save.disabled) return;
    // The box goes when the question is drawn with its new words; should it be refused, nothing is lost.
    send('edit', turn, text);
    edit.focused = false;
    document.querySelector('#message textarea')?.focus();
  };
  edit.area = make('textarea', { value: button.dataset.text, rows: 2 });
  edit.save = make('button', { type: 'button', className: 'sn-save', onclick: save });
  edit.cancel = make('button', { type: 'button', className: 'sn-cancel', onclick: () => close(turn) });
  edit.box = make('div', {});
  const row = make('div', { className: 'sn-edit-row' });
  row.append(edit.save, edit.cancel);
  edit.box.append(edit.area, row);
  edit.area.addEventListener('focus', () => { edit.focused = true; });
  // Being drawn anew takes the focus away too; only a person's leaving counts.
  edit.area.addEventListener('blur', () => setTimeout(() => {
    if (edit.area.isConnected && document.activeElement !== edit.area) edit.focused = false;
  }));
  edit.area.addEventListener('keydown', (event) => {
    if (event.isComposing) return;
    if (event.key === 'Enter' && !event.shiftKey) { event.preventDefault(); save(); }
    if (event.key === 'Escape') { event.preventDefault(); close(turn); }
  });
  edits().set(turn, edit);
  put(edit, button.closest('.sn-turn'));
};

// The second half of a double click may meet the bin of the turn that has just moved up.
const isDoubleClick = (event) => {
  const soon = event.timeStamp - (transcript().snugDeleted ?? -1e9) < 600;
  transcript().snugDeleted = event.timeStamp;
  return soon;
};

// One of the boxes in a picture alone, or all of them again.
const showBox = (button) => {
  const on = button.getAttribute('aria-pressed') !== 'true';
  const figure = button.closest('.sn-marked');
  for (const other of figure.querySelectorAll('[data-box]')) {
    other.setAttribute('aria-pressed', String(on && other === button));
  }
  for (const box of figure.querySelectorAll('[data-number]')) {
    box.classList.toggle('sn-on', on && box.dataset.number === button.dataset.box);
  }
  figure.querySelector('.sn-canvas').classList.toggle('sn-one', on);
};

element.addEventListener('click', (event) => {
  const box = event.target.closest('[data-box]');
  if (box) return showBox(box);
  const button = event.target.closest('[data-act]');
  if (!button) return;
  const { act } = button.dataset;
  const { turn } = button.closest('[data-turn]').dataset;
  if (act === 'copy') return copy(button);
  if (act === 'edit') return begin(button, turn);
  if (act === 'delete' && isDoubleClick(event)) return;
  send(act, turn);
});

new MutationObserver(restore).observe(element, { childList: true, subtree: true });
