// Before the first paint: the remembered theme, or the system's, on <html>. Keeps dark rooms dark while the rest loads.
(function () {
  var key = 'mantine-color-scheme-value';
  var dark = window.matchMedia('(prefers-color-scheme: dark)');
  function paint() {
    var chosen = localStorage.getItem(key);
    var scheme = chosen === 'light' || chosen === 'dark' ? chosen : dark.matches ? 'dark' : 'light';
    document.documentElement.setAttribute('data-mantine-color-scheme', scheme);
    document.documentElement.setAttribute('data-ag-theme-mode', scheme);
  }
  paint();
  dark.addEventListener('change', paint);
  window.addEventListener('storage', paint);
})();
