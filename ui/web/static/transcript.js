// Runs for each half of the conversation: buttons become 'act' events, copy and edit begin here.
const send = (action, turn, text) => trigger('act', { action, turn: Number(turn), text: text ?? '' });

const copy = async (button) => {
  await navigator.clipboard.writeText(button.dataset.text);
  const title = button.title;
  button.classList.add('sn-done');
  button.title = button.dataset.done;
  setTimeout(() => { button.classList.remove('sn-done'); button.title = title; }, 1200);
};

const edit = (button, turn) => {
  const shown = button.closest('.sn-question').querySelector('.sn-text');
  if (shown.dataset.editing) return;
  const before = shown.textContent;
  const area = Object.assign(document.createElement('textarea'), { value: button.dataset.text, rows: 2 });
  area.setAttribute('aria-label', button.title);
  const make = (label, kind, act) => {
    const made = Object.assign(document.createElement('button'), { type: 'button', textContent: label, className: kind, onclick: act });
    return made;
  };
  const close = () => { delete shown.dataset.editing; shown.textContent = before; button.focus(); };
  const save = () => {
    const text = area.value.trim();
    if (!text) return;
    close();
    send('edit', turn, text);
  };
  const row = document.createElement('div');
  row.append(make(button.dataset.save, 'sn-save', save), make(button.dataset.cancel, 'sn-cancel', close));
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); save(); }
    if (event.key === 'Escape') { event.preventDefault(); close(); }
  });
  shown.dataset.editing = '1';
  shown.replaceChildren(area, row);
  area.focus();
};

element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (!button) return;
  const turn = button.dataset.turn ?? button.closest('[data-turn]').dataset.turn;
  if (button.dataset.act === 'copy') copy(button);
  else if (button.dataset.act === 'edit') edit(button, turn);
  else send(button.dataset.act, turn);
});
