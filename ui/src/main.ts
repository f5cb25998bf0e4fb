// Starts the page.
import '@fontsource-variable/inter/wght.css';
import './styles/tokens.css';
import './styles/base.css';
import './styles/doorway.css';
import './styles/call.css';
import './styles/tile.css';
import './styles/panel.css';
import './styles/narrow.css';
import { mount } from 'svelte';
import App from './App.svelte';

const target = document.getElementById('app');
if (target) mount(App, { target });
