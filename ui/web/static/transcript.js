// Runs for each half of the conversation: buttons become 'act' events, copy and edit begin here.
const send = (action, turn, text) => trigger('act', { action, turn: Number(turn), text: text ?? '' });

const copy = async (button) => {
  await navigator.clipboard.writeText(button.dataset.text);
  const title = button.title;
  button.classList.add('sn-done');
  button.title = button.dataset.done;
  setTimeout(() => { button.classList.remove('sn-done'); button.title = title; }, 1200);
};

// Open edits, by turn. A turn is drawn anew when it moves from one half to the other and whenever buttons
// come or go; what a person is writing must outlive that, so both halves share the list and put the very
// same box back into what was drawn.
const transcript = () => element.closest('#transcript');
const edits = () => (transcript().snugEdits ??= new Map());

const questionOf = (turn) => transcript().querySelector(`[data-turn="${turn}"] .sn-question`);

const put = (edit, question) => {
  question.querySelector('.sn-text').replaceChildren(edit.box);
  // While an answer comes nothing can be asked; the box stays, its button waits.
  edit.save.disabled = !question.querySelector('[data-act="edit"]');
  if (edit.focused) edit.area.focus({ preventScroll: true });
};

const restore = () => {
  if (transcript().querySelector('.sn-welcome')) edits().clear();
  for (const [turn, edit] of edits()) {
    const question = edit.box.isConnected ? null : questionOf(turn);
    if (question?.querySelector('.sn-text').textContent === edit.asked) put(edit, question);
  }
};

const close = (turn) => {
  const edit = edits().get(turn);
  edits().delete(turn);
  const question = edit.box.closest('.sn-question');
  edit.box.replaceWith(edit.asked);
  question.querySelector('[data-act="edit"]')?.focus();
};

const begin = (button, turn) => {
  if (edits().has(turn)) return edits().get(turn).area.focus();
  const area = Object.assign(document.createElement('textarea'), { value: button.dataset.text, rows: 2 });
  area.setAttribute('aria-label', button.title);
  const make = (label, kind, onclick) =>
    Object.assign(document.createElement('button'), { type: 'button', textContent: label, className: kind, onclick });
  const edit = { asked: button.dataset.text, area, box: document.createElement('div'), focused: true };
  // Turns below a deleted one move up, so the number is looked up when it is needed.
  const now = () => [...edits()].find(([, one]) => one === edit)[0];
  const save = () => {
    const text = area.value.trim();
    if (!text || edit.save.disabled) return;
    const at = now();
    close(at);
    // Asking again from here drops what came after.
    for (const later of [...edits().keys()]) if (later > at) edits().delete(later);
    send('edit', at, text);
  };
  edit.save = make(button.dataset.save, 'sn-save', save);
  const row = Object.assign(document.createElement('div'), { className: 'sn-edit-row' });
  row.append(edit.save, make(button.dataset.cancel, 'sn-cancel', () => close(now())));
  edit.box.append(area, row);
  area.addEventListener('focus', () => { edit.focused = true; });
  // Being drawn anew takes the focus away too; only a person's leaving counts.
  area.addEventListener('blur', () => setTimeout(() => {
    if (area.isConnected && document.activeElement !== area) edit.focused = false;
  }));
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); save(); }
    if (event.key === 'Escape') { event.preventDefault(); close(now()); }
  });
  edits().set(turn, edit);
  put(edit, questionOf(turn));
};

const dropDeleted = (turn) => {
  const moved = [...edits()].filter(([at]) => at !== turn).map(([at, edit]) => [at > turn ? at - 1 : at, edit]);
  edits().clear();
  for (const [at, edit] of moved) edits().set(at, edit);
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (!button) return;
  const turn = Number(button.dataset.turn ?? button.closest('[data-turn]').dataset.turn);
  if (button.dataset.act === 'copy') return copy(button);
  if (button.dataset.act === 'edit') return begin(button, turn);
  if (button.dataset.act === 'delete') dropDeleted(turn);
  send(button.dataset.act, turn);
});

new MutationObserver(restore).observe(element, { childList: true, subtree: true });
