// Behaviour that needs no server: theme switch, menu, palette, and the step from a button to its review dialog.
(function () {
  var KEY = 'mantine-color-scheme-value';

  function go(path) {
    window.history.pushState({}, '', path);
    window.dispatchEvent(new CustomEvent('_dashprivate_pushstate'));
    window.scrollTo(0, 0);
  }

  function theme(value) {
    localStorage.setItem(KEY, value);
    window.dispatchEvent(new StorageEvent('storage', { key: KEY, newValue: value, storageArea: localStorage }));
    mark();
  }

  function mark() {
    var chosen = localStorage.getItem(KEY) || 'auto';
    document.querySelectorAll('[data-theme]').forEach(function (button) {
      button.setAttribute('aria-pressed', String(button.dataset.theme === chosen));
    });
    var path = window.location.pathname;
    document.querySelectorAll('#nav a').forEach(function (a) {
      var own = a.getAttribute('href');
      var here = own === path || (own === '/releases' && path.indexOf('/release/') === 0);
      if (here) a.setAttribute('aria-current', 'page'); else a.removeAttribute('aria-current');
    });
    // The modal's inner header would count as a second banner.
    document.querySelectorAll('.mantine-Modal-header').forEach(function (h) { h.setAttribute('role', 'none'); });
  }

  function menu(open) {
    document.documentElement.classList.toggle('menu-open', open);
    var button = document.getElementById('menu');
    if (button) button.setAttribute('aria-expanded', String(open));
  }

  function ask(button) {
    window.dash_clientside.set_props('ask', {
      data: { verb: button.dataset.verb, subject: button.dataset.subject, at: Date.now() },
    });
  }

  var lastAsked = null;
  document.addEventListener('click', function (event) {
    var hit = function (selector) { return event.target.closest(selector); };
    var button;
    if ((button = hit('[data-theme]'))) theme(button.dataset.theme);
    else if (hit('#menu')) menu(!document.documentElement.classList.contains('menu-open'));
    else if (hit('#search')) openPalette();
    else if ((button = hit('button.ask')) && !button.disabled) { lastAsked = button; ask(button); }
    else if (hit('#dialog-again') && lastAsked) ask(lastAsked);
    else if (hit('#nav a') || !hit('#nav')) menu(false);
  });

  // ---- palette: a native dialog; pages, and releases that the ledger finds
  var dialog, input, list, places = [], releases = [], at = 0, typing = null;

  function build() {
    dialog = document.createElement('dialog');
    dialog.id = 'palette';
    dialog.setAttribute('aria-label', 'Go to or do');
    dialog.innerHTML = '<input role="combobox" aria-expanded="true" aria-controls="palette-list" ' +
      'aria-autocomplete="list" aria-label="Go to or do" placeholder="Page or release" autocomplete="off">' +
      '<ul id="palette-list" role="listbox" aria-label="Places"></ul>';
    document.body.appendChild(dialog);
    input = dialog.querySelector('input');
    list = dialog.querySelector('ul');
    input.addEventListener('input', function () {
      at = 0; show();
      clearTimeout(typing);
      typing = setTimeout(find, 150);
    });
    dialog.addEventListener('click', function (event) {
      if (event.target === dialog) dialog.close();
      var item = event.target.closest('li[data-href]');
      if (item) { dialog.close(); go(item.dataset.href); }
    });
    dialog.addEventListener('keydown', function (event) {
      var found = list.querySelectorAll('li[data-href]');
      if (event.key === 'ArrowDown') { at = Math.min(at + 1, found.length - 1); show(); event.preventDefault(); }
      if (event.key === 'ArrowUp') { at = Math.max(at - 1, 0); show(); event.preventDefault(); }
      if (event.key === 'Enter' && found[at]) { dialog.close(); go(found[at].dataset.href); event.preventDefault(); }
    });
  }

  function openPalette() {
    if (!dialog) build();
    places = [];
    document.querySelectorAll('#palette-links a').forEach(function (a) {
      places.push({ name: a.textContent, href: a.getAttribute('href') });
    });
    input.value = ''; at = 0;
    if (!dialog.open) dialog.showModal();
    show();
    find();
  }

  // Searched when it opens and as it is typed, never kept: the list is as fresh as the ledger.
  function find() {
    var words = input.value.trim();
    fetch('/places?search=' + encodeURIComponent(words.slice(0, 200)), { credentials: 'same-origin' })
      .then(function (a) { return a.ok ? a.json() : []; })
      .then(function (more) {
        if (input.value.trim() !== words) return;   // a later search is under way
        releases = more; show();
      }).catch(function () {});
  }

  function show() {
    var words = input.value.trim().toLowerCase();
    var found = places.concat(releases).filter(function (p) { return p.name.toLowerCase().indexOf(words) >= 0; }).slice(0, 12);
    at = Math.max(0, Math.min(at, found.length - 1));
    list.replaceChildren();
    found.forEach(function (place, index) {
      var item = document.createElement('li');
      item.id = 'place-' + index;
      item.setAttribute('role', 'option');
      item.setAttribute('aria-selected', String(index === at));
      item.dataset.href = place.href;
      item.append(document.createTextNode(place.name));
      if (place.note) { var note = document.createElement('span'); note.textContent = place.note; item.append(note); }
      list.append(item);
    });
    if (!found.length) {
      var nothing = document.createElement('li');
      nothing.setAttribute('role', 'option');
      nothing.setAttribute('aria-disabled', 'true');
      nothing.setAttribute('aria-selected', 'false');
      nothing.textContent = 'Nothing has that name.';
      list.append(nothing);
    }
    if (found.length) input.setAttribute('aria-activedescendant', 'place-' + at);
    else input.removeAttribute('aria-activedescendant');
  }

  document.addEventListener('keydown', function (event) {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') { event.preventDefault(); openPalette(); }
    if (event.key === 'Escape') menu(false);
  });

  window.addEventListener('_dashprivate_pushstate', function () { setTimeout(mark, 0); menu(false); });
  window.addEventListener('popstate', function () { setTimeout(mark, 0); });
  window.addEventListener('storage', mark);
  var waiting = false;
  new MutationObserver(function () {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(function () { waiting = false; mark(); });
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
